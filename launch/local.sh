#!/usr/bin/env bash
# Several processes on one machine, as a test of a multi-process run: launch/local.sh N --config … --workdir …
# (One process already uses all of a machine's GPUs; this is for trying out what a cluster will do.)
set -euo pipefail
count=$1
shift
export JAX_COORDINATOR_ADDRESS=localhost:${PORT:-$((20000 + RANDOM % 20000))} JAX_NUM_PROCESSES=$count
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for ((i = 1; i < count; i++)); do JAX_PROCESS_ID=$i python -m imgcls_jax.main "$@" & done
JAX_PROCESS_ID=0 python -m imgcls_jax.main "$@"
wait
