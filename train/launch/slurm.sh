#!/bin/bash
# Several machines under SLURM: one torchrun a node, which starts one process a GPU.
#
#   sbatch --nodes=4 --gpus-per-node=8 train/launch/slurm.sh RECIPE --out DIR deepspeed=zero3
#
# DIR has to be on a disk that all nodes see. After the time limit, the same line with --resume goes on.
#SBATCH --job-name=mminstruct
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
set -euo pipefail

# The first host of the job is where the processes of all nodes find each other.
# (`sed` reads to the end; behind `head`, which does not, `pipefail` may find that scontrol was cut off.)
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
# A port of its own for each job, so that two jobs may share the first host.
port=$((20000 + SLURM_JOB_ID % 10000))

# `sbatch` runs a copy of this file from elsewhere; jobs start in the folder that they were handed in from.
exec srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" \
    --nproc_per_node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_backend=c10d \
    --rdzv_id="$SLURM_JOB_ID" \
    --rdzv_endpoint="$head:$port" \
    "${SCRIPT:-train/finetune.py}" "$@"
