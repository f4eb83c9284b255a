#!/bin/bash
# Pretraining with DeepSpeed's launcher:  bash launch/cluster/deepspeed/pretrain.sh  on one machine, which starts all nodes.
#
# It needs pdsh here and ssh without a password to every host of the hostfile. It starts nothing again: when a node is
# lost, the others end, and the same command goes on from the last checkpoint once the hostfile is right again.
#
# ---- fill in ----------------------------------------------------------------------------------------------------
HOSTFILE=launch/cluster/deepspeed/hostfile  # a line "HOST slots=RANKS" for every node
CONFIG=acn-base  # the recipe
DATA=/shared/tokens  # the prepared corpus: a folder that all nodes see, or a URL
OUTPUT=/shared/runs/acn  # the run's folder, on storage that all nodes share
OPTIONS=(--micro_batch_size 128)  # further options of acn pretrain
MLFLOW=''  # tracking server, http://HOST:5000; empty: the recipe's
RANK_LOGS=''  # shared folder for a log of every rank; empty: the job's log alone
LAUNCHER_OPTIONS=()  # further options of the launcher
GPUS_PER_NODE=8  # 0: nodes without GPUs, one rank each
PREFLIGHT=yes  # check all nodes first, start nothing when there is a fault
PORT=29500
setup() { cd /shared/acn-lm && . .venv/bin/activate; }  # makes `acn` and the recipe found
# ---- the rest need not change -----------------------------------------------------------------------------------

set -u
setup || exit 1
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # else survivors of a lost first node keep its store's address
export PYTHONUNBUFFERED=1  # the last lines of a rank that is killed are in the log
export PYTHONFAULTHANDLER=1  # a rank that crashes in C code says where in Python it was
export PYTHONSAFEPATH=1  # else Python finds what lies in the folder: a deepspeed/, a json.py
export GLOO_SOCKET_IFNAME=eth0  # else gloo takes the address that the host's name resolves to
export NCCL_SOCKET_IFNAME=eth0  # else NCCL takes the first interface that is up
export NCCL_DEBUG=WARN  # errors of the network name their cause; INFO says which links are used
# export NCCL_DEBUG=INFO  # which links and algorithms NCCL uses, and why not others
# export NCCL_DEBUG_SUBSYS=INIT,NET,GRAPH  # of that, what is about the network
# export NCCL_IB_HCA=mlx5  # InfiniBand: these cards alone
# export FI_PROVIDER=efa  # AWS EFA, with the plugin aws-ofi-nccl; without, NCCL takes TCP
# export FI_EFA_USE_DEVICE_RDMA=1  # AWS EFA: GPUDirect RDMA, on p4d and later
# export TORCH_DISTRIBUTED_DEBUG=DETAIL  # collectives that differ between ranks are named
# export TORCH_NCCL_TRACE_BUFFER_SIZE=2000  # torch's flight recorder: the last collectives of each rank

ranks=$((GPUS_PER_NODE > 0 ? GPUS_PER_NODE : 1))
export OMP_NUM_THREADS=$(($(nproc) > ranks ? $(nproc) / ranks : 1))  # a rank's share of the cores
# without the file, DeepSpeed would train on this machine alone
[ -r "$HOSTFILE" ] || { echo "HOSTFILE=$HOSTFILE: there is no such file in $PWD" >&2; exit 2; }
head=$(awk '!/^#/ && NF { print $1; exit }' "$HOSTFILE")

# The launcher passes on few variables by itself: the rest stand in a file.
DS_ENV_FILE=$(mktemp)
export DS_ENV_FILE
trap 'rm -f "$DS_ENV_FILE"' EXIT
for name in OMP_NUM_THREADS \
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE PYTHONUNBUFFERED PYTHONFAULTHANDLER PYTHONSAFEPATH \
    GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME NCCL_DEBUG NCCL_DEBUG_SUBSYS \
    NCCL_IB_HCA FI_PROVIDER FI_EFA_USE_DEVICE_RDMA TORCH_DISTRIBUTED_DEBUG \
    TORCH_NCCL_TRACE_BUFFER_SIZE; do
    [ -n "${!name:-}" ] && echo "$name=${!name}" >>"$DS_ENV_FILE"
done

rank_logs=()
on_all_nodes() { # VERB OPTIONS...
    deepspeed --hostfile "$HOSTFILE" --master_addr "$head" --master_port "$PORT" --no_local_rank \
        "${rank_logs[@]}" "${LAUNCHER_OPTIONS[@]}" --no_python "$(command -v acn)" "$@"
}

arguments=(--config "$CONFIG" --data "$DATA" --output "$OUTPUT" ${MLFLOW:+--tracking.mlflow "$MLFLOW"} "${OPTIONS[@]}")
if [ "$PREFLIGHT" = yes ]; then
    on_all_nodes preflight "${arguments[@]}" || exit
fi
[ -n "$RANK_LOGS" ] && rank_logs=("--enable_each_rank_log=$RANK_LOGS") # instead of this terminal
on_all_nodes pretrain "${arguments[@]}"
