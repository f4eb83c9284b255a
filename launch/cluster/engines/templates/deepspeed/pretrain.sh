{% import "parts.sh" as parts with context %}
#!/bin/bash
# Pretraining with DeepSpeed's launcher:  bash {{ script }}  on one machine, which starts all nodes.
#
# It needs pdsh here and ssh without a password to every host of the hostfile. It starts nothing again: when a node is
# lost, the others end, and the same command goes on from the last checkpoint once the hostfile is right again.
#
# ---- fill in ----------------------------------------------------------------------------------------------------
HOSTFILE={{ deepspeed.hostfile | sh }}  # a line "HOST slots=RANKS" for every node
{{ parts.run_header() }}
PORT={{ port }}
{{ parts.setup_header() }}
# ---- the rest need not change -----------------------------------------------------------------------------------

set -u
setup || exit 1
{{ parts.exports() }}
{{ parts.threads("$(nproc)") }}
# without the file, DeepSpeed would train on this machine alone
[ -r "$HOSTFILE" ] || { echo "HOSTFILE=$HOSTFILE: there is no such file in $PWD" >&2; exit 2; }
head=$(awk '!/^#/ && NF { print $1; exit }' "$HOSTFILE")

# The launcher passes on few variables by itself: the rest stand in a file.
DS_ENV_FILE=$(mktemp)
export DS_ENV_FILE
trap 'rm -f "$DS_ENV_FILE"' EXIT
for name in OMP_NUM_THREADS{% for variable in variables + to_try | rejectattr("name", "in", variables | map(attribute="name") | list) | list %}{{ " \\\n    " if loop.index0 % 4 == 0 else " " }}{{ variable.name }}{% endfor %}; do
    [ -n "${!name:-}" ] && echo "$name=${!name}" >>"$DS_ENV_FILE"
done

rank_logs=()
on_all_nodes() { # VERB OPTIONS...
    deepspeed --hostfile "$HOSTFILE" --master_addr "$head" --master_port "$PORT" --no_local_rank \
        "${rank_logs[@]}" "${LAUNCHER_OPTIONS[@]}" --no_python "$(command -v acn)" "$@"
}

{{ parts.job_arguments() }}
if [ "$PREFLIGHT" = yes ]; then
    on_all_nodes preflight "${arguments[@]}" || exit
fi
[ -n "$RANK_LOGS" ] && rank_logs=("--enable_each_rank_log=$RANK_LOGS") # instead of this terminal
on_all_nodes pretrain "${arguments[@]}"
