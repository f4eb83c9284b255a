"""The place where the nodes of an elastic job meet, on a machine that outlives them.

    python -P -m launch.cluster.engines.store 29500

-P: what the folder there contains is not looked at, a folder launch/ for instance.

It holds who takes part, and nothing of the training. Without it the first node holds that, and the job ends with that
node. It serves one job at a time; stop it with Ctrl-C when the job is done.
"""

import argparse
import signal
import socket
import threading

from torch.distributed import TCPStore


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    store = TCPStore("0.0.0.0", parser.parse_args().port, is_master=True, wait_for_workers=False)
    print(f"rendezvous store on {socket.gethostname()}:{store.port}", flush=True)
    end.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
