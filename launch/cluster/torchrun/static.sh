#!/bin/bash
# Pretraining with a fixed number of nodes:  bash launch/cluster/torchrun/static.sh  on every one of them.
#
# They meet on the head node and wait for each other (ten minutes at most). When a rank dies, all start again from the
# last checkpoint, MAX_RESTARTS times; a node that dies must be started again by somebody, the others wait for it.
#
# ---- fill in ----------------------------------------------------------------------------------------------------
NODES=2
HEAD=node1  # one of the nodes, as all of them can reach it
CONFIG=acn-base  # the recipe
DATA=/shared/tokens  # the prepared corpus: a folder that all nodes see, or a URL
OUTPUT=/shared/runs/acn  # the run's folder, on storage that all nodes share
OPTIONS=(--micro_batch_size 128)  # further options of acn pretrain
MLFLOW=''  # tracking server, http://HOST:5000; empty: the recipe's
RANK_LOGS=''  # shared folder for a log of every rank; empty: the job's log alone
LAUNCHER_OPTIONS=()  # further options of the launcher
GPUS_PER_NODE=8  # 0: nodes without GPUs, one rank each
PREFLIGHT=yes  # check all nodes first, start nothing when there is a fault
NAME=acn-pretrain
PORT=29500
MAX_RESTARTS=3
SHUTDOWN_SECONDS=120  # for the last checkpoint, when a run is stopped or a node joins
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
rank_logs=()
[ -n "$RANK_LOGS" ] && rank_logs=(--log-dir "$RANK_LOGS/$(hostname)" --tee 3)
run() { # PORT RESTARTS VERB OPTIONS...
    local port=$1 restarts=$2
    shift 2
    exec torchrun --nnodes "$NODES" --nproc-per-node "$ranks" --max-restarts "$restarts" \
        --rdzv-backend c10d --rdzv-endpoint "$HEAD:$port" --rdzv-id "$NAME" \
        --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout "$SHUTDOWN_SECONDS" \
        "${rank_logs[@]}" "${LAUNCHER_OPTIONS[@]}" --no-python acn "$@"
}

arguments=(--config "$CONFIG" --data "$DATA" --output "$OUTPUT" ${MLFLOW:+--tracking.mlflow "$MLFLOW"} "${OPTIONS[@]}")
if [ "$PREFLIGHT" = yes ]; then
    (run $((PORT + 1)) 0 preflight "${arguments[@]}") || exit
fi
run "$PORT" "$MAX_RESTARTS" pretrain "${arguments[@]}"
