{% import "parts.sh" as parts with context %}
#!/bin/bash
# Pretraining with nodes that come and go:  bash {{ script }}  on each of them, whenever it is there.
#
# First start the store where they meet, on a machine that outlives them (HEAD):
#     python -P -m launch.cluster.engines.store PORT
# Training runs while MIN_NODES to MAX_NODES are there. A node that dies or loses its link costs the steps since the
# last checkpoint; for one that joins, the others write a checkpoint first. Every number of ranks that can occur must
# divide the recipe's global batch.
#
# ---- fill in ----------------------------------------------------------------------------------------------------
MIN_NODES={{ torchrun.min_nodes }}
MAX_NODES={{ nodes }}
HEAD={{ torchrun.head | sh }}  # where the store runs
PORT={{ port }}  # the store's
{{ parts.run_header() }}
NAME={{ name }}  # another one for every job that uses the same store
MAX_RESTARTS={{ max_restarts }}  # after ranks that failed, on each node; raise it where nodes are often lost
SHUTDOWN_SECONDS=120  # for the last checkpoint, when a run is stopped or a node joins
{{ parts.setup_header() }}
# ---- the rest need not change -----------------------------------------------------------------------------------

set -u
setup || exit 1
{{ parts.exports() }}
{{ parts.threads("$(nproc)") }}
{{ parts.logs_of_ranks("$(hostname)") }}
{{ parts.job_arguments() }}
if [ "$PREFLIGHT" = yes ]; then # this node by itself: the others may be training
    acn preflight "${arguments[@]}" --nproc_per_node "$ranks" || exit
fi
# last_call_timeout: how long a complete round waits for more nodes. is_host: no node keeps the store.
exec torchrun --nnodes "$MIN_NODES:$MAX_NODES" --nproc-per-node "$ranks" --max-restarts "$MAX_RESTARTS" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:$PORT" --rdzv-id "$NAME" \
    --rdzv-conf is_host=false,last_call_timeout=10,join_timeout=600,read_timeout=60 \
    {{ parts.signals }} --shutdown-timeout "$SHUTDOWN_SECONDS" \
    "${rank_logs[@]}" "${LAUNCHER_OPTIONS[@]}" --no-python acn pretrain "${arguments[@]}"
