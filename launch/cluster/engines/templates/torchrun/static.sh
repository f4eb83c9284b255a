{% import "parts.sh" as parts with context %}
#!/bin/bash
# Pretraining with a fixed number of nodes:  bash {{ script }}  on every one of them.
#
# They meet on the head node and wait for each other (ten minutes at most). When a rank dies, all start again from the
# last checkpoint, MAX_RESTARTS times; a node that dies must be started again by somebody, the others wait for it.
#
# ---- fill in ----------------------------------------------------------------------------------------------------
NODES={{ nodes }}
HEAD={{ torchrun.head | sh }}  # one of the nodes, as all of them can reach it
{{ parts.run_header() }}
NAME={{ name }}
PORT={{ port }}
MAX_RESTARTS={{ max_restarts }}
SHUTDOWN_SECONDS=120  # for the last checkpoint, when a run is stopped or a node joins
{{ parts.setup_header() }}
# ---- the rest need not change -----------------------------------------------------------------------------------

set -u
setup || exit 1
{{ parts.exports() }}
{{ parts.threads("$(nproc)") }}
{{ parts.logs_of_ranks("$(hostname)") }}
run() { # PORT RESTARTS VERB OPTIONS...
    local port=$1 restarts=$2
    shift 2
    exec torchrun --nnodes "$NODES" --nproc-per-node "$ranks" --max-restarts "$restarts" \
        --rdzv-backend c10d --rdzv-endpoint "$HEAD:$port" --rdzv-id "$NAME" \
        {{ parts.signals }} --shutdown-timeout "$SHUTDOWN_SECONDS" \
        "${rank_logs[@]}" "${LAUNCHER_OPTIONS[@]}" --no-python acn "$@"
}

{{ parts.job_arguments() }}
if [ "$PREFLIGHT" = yes ]; then
    (run $((PORT + 1)) 0 preflight "${arguments[@]}") || exit
fi
run "$PORT" "$MAX_RESTARTS" pretrain "${arguments[@]}"
