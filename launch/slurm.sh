#!/usr/bin/env bash
#SBATCH --job-name=imgcls_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
# sbatch launch/slurm.sh --config configs/cifar10_r18.py --workdir /shared/runs/cifar10_r18
# One process a node, over all of its GPUs (fewer of them in use is refused). The work directory must be on storage that
# every node sees. Two minutes before the time is up, and when the job is preempted, Slurm signals the steps: the run
# saves, all processes end with 75, and the job is requeued, to go on from that step. Settings of a cluster go on the
# command line: sbatch --partition=… --gpus-per-node=4 launch/slurm.sh …
set -uo pipefail
trap '' TERM # the steps answer the signal; this script must live to requeue: a job that ends then counts as failed
srun python -m imgcls_jax.main --cluster slurm "$@"
status=$?
if [ "$status" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
  sleep 60 # until Slurm ends this script
fi
exit "$status"
