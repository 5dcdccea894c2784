#!/usr/bin/env bash
#SBATCH --job-name=imgcls_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --requeue
# sbatch launch/slurm.sh --config configs/cifar10_r18.py --workdir /shared/runs/cifar10_r18
# One process a node, over all of its GPUs. The work directory must be on storage that every node sees. A requeued job
# continues where its last checkpoint left off. JAX finds the coordinator from SLURM's variables.
set -euo pipefail
export IMGCLS_DISTRIBUTED=auto
srun python -m imgcls_jax.main "$@"
