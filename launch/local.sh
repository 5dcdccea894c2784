#!/usr/bin/env bash
# Several processes on one machine, as a test of a multi-process run: launch/local.sh N --config … --workdir …
# (One process already uses all of a machine's GPUs; this is for trying out what a cluster will do.) Its exit status is
# that of the first process, by number, that did not end well. Ctrl-C and SIGTERM go to all of them.
set -uo pipefail
count=$1
shift
export JAX_COORDINATOR_ADDRESS=localhost:${PORT:-$((20000 + RANDOM % 12000))} JAX_NUM_PROCESSES=$count
set -m # else bash lets what runs in the background ignore Ctrl-C
processes=()
for ((i = 0; i < count; i++)); do
  JAX_PROCESS_ID=$i python -m imgcls_jax.main "$@" &
  processes+=($!)
done
trap 'kill -INT "${processes[@]}" 2>/dev/null' INT
trap 'kill -TERM "${processes[@]}" 2>/dev/null' TERM
result=0
for process in "${processes[@]}"; do
  while :; do # a signal ends a `wait` early
    wait "$process"
    status=$?
    kill -0 "$process" 2>/dev/null || break
  done
  [ "$result" -ne 0 ] || result=$status
done
exit "$result"
