#!/bin/bash
# Pretraining with nodes that come and go:  bash launch/cluster/torchrun/elastic.sh  on each of them, whenever it is there.
#
# First start the store where they meet, on a machine that outlives them (HEAD):
#     python -P -m launch.cluster.engines.store PORT
# Training runs while MIN_NODES to MAX_NODES are there. A node that dies or loses its link costs the steps since the
# last checkpoint; for one that joins, the others write a checkpoint first. Every number of ranks that can occur must
# divide the recipe's global batch.
#
# ---- fill in ----------------------------------------------------------------------------------------------------
MIN_NODES=1
MAX_NODES=2
HEAD=head  # where the store runs
PORT=29500  # the store's
CONFIG=acn-base  # the recipe
DATA=/shared/tokens  # the prepared corpus: a folder that all nodes see, or a URL
OUTPUT=/shared/runs/acn  # the run's folder, on storage that all nodes share
OPTIONS=(--micro_batch_size 128)  # further options of acn pretrain
MLFLOW=''  # tracking server, http://HOST:5000; empty: the recipe's
RANK_LOGS=''  # shared folder for a log of every rank; empty: the job's log alone
LAUNCHER_OPTIONS=()  # further options of the launcher
GPUS_PER_NODE=8  # 0: nodes without GPUs, one rank each
PREFLIGHT=yes  # check all nodes first, start nothing when there is a fault
NAME=acn-pretrain  # another one for every job that uses the same store
MAX_RESTARTS=3  # after ranks that failed, on each node; raise it where nodes are often lost
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
arguments=(--config "$CONFIG" --data "$DATA" --output "$OUTPUT" ${MLFLOW:+--tracking.mlflow "$MLFLOW"} "${OPTIONS[@]}")
if [ "$PREFLIGHT" = yes ]; then # this node by itself: the others may be training
    acn preflight "${arguments[@]}" --nproc_per_node "$ranks" || exit
fi
# last_call_timeout: how long a complete round waits for more nodes. is_host: no node keeps the store.
exec torchrun --nnodes "$MIN_NODES:$MAX_NODES" --nproc-per-node "$ranks" --max-restarts "$MAX_RESTARTS" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:$PORT" --rdzv-id "$NAME" \
    --rdzv-conf is_host=false,last_call_timeout=10,join_timeout=600,read_timeout=60 \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout "$SHUTDOWN_SECONDS" \
    "${rank_logs[@]}" "${LAUNCHER_OPTIONS[@]}" --no-python acn pretrain "${arguments[@]}"
