"""ssh without a password between the nodes of a test, with keys and settings of its own."""

import shutil
import subprocess
from pathlib import Path

from tests.launch.cluster.nodes import Nodes


def why_not() -> str | None:
    """Why the nodes cannot have ssh; None when they can."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen") if shutil.which(name, path="/usr/bin:/usr/sbin") is None]
    return f"{', '.join(missing)} not found: apt-get install openssh-server" if missing else None


def start_sshd(cluster: Nodes, names: list[str], folder: Path) -> Path:
    """A server on each node; returns a folder whose `ssh` reaches them, to be put in front of PATH."""
    folder.mkdir(mode=0o700)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    server = {
        "HostKey": folder / "host", "AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "UsePAM": "no",
        "PermitRootLogin": "prohibit-password", "PasswordAuthentication": "no", "UseDNS": "no",
    }  # fmt: skip
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in server.items()))
    client = f"IdentityFile {folder}/user\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
    (folder / "ssh_config").write_text(client)
    for name in names:
        options = ["-D", "-e", "-f", str(folder / "sshd_config"), "-o", f"ListenAddress={cluster.addresses[name]}"]
        daemon = cluster.start(name, ["/usr/sbin/sshd", *options, "-o", f"PidFile={folder}/{name}.pid"])
        daemon.wait_for("Server listening")
    wrapper = folder / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/bash\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    return wrapper.parent
