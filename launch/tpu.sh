#!/usr/bin/env bash
# A run on a Cloud TPU slice that is queued for, and again after each preemption, until the run is finished:
#   ZONE=us-west4-a IMAGE=REGISTRY/imgcls_jax:tpu NFS=10.0.0.2:/share \
#     launch/tpu.sh NAME --config configs/cifar10_r18.py --workdir /shared/runs/cifar10_r18
# Needs gcloud, logged in, and must live as long as the run: on a small machine of the cloud, in tmux. IMAGE is made of
# launch/Dockerfile (the slices' own Python is too old); NFS is a file system that all machines mount at /shared, for data
# and runs. Its exit status is the run's. Ctrl-C ends it and leaves the slice and the run to go on: the next call for the
# same NAME finds them.
set -uo pipefail
accelerator=${ACCELERATOR:-v5litepod-16} runtime=${RUNTIME:-v2-alpha-tpuv5-lite} pause=${PAUSE:-30}
: "${ZONE:?of the slice, such as us-west4-a}" "${IMAGE:?of launch/Dockerfile, in a registry}" "${NFS:?HOST:/PATH}"
name=${1:?NAME of the slice}
shift

queued() { gcloud compute tpus queued-resources "$@" --zone="$ZONE"; }
state() { queued describe "$name" --format='value(state.state)' 2>/dev/null; }
on() { gcloud compute tpus tpu-vm ssh "$name" --zone="$ZONE" --worker="$1" --command="$2"; }

# Every worker starts it, or finds it; it goes on where nobody is connected any more. Docker keeps its status, because
# gcloud does not pass on those of several workers.
arguments=$(printf '%q ' "$@")
start="set -e
if ! mountpoint -q /shared; then
  sudo apt-get install -qy nfs-common >/dev/null
  sudo mkdir -p /shared && sudo mount -t nfs $NFS /shared
fi
if ! sudo docker inspect imgcls >/dev/null 2>&1; then
  sudo docker run -d --name imgcls --privileged --net=host --stop-timeout=120 -v /shared:/shared \
    -e IMGCLS_DISTRIBUTED=auto -e TFDS_DATA_DIR=/shared/tfds $IMAGE train $arguments
fi
sudo docker logs -f --since=1m imgcls"
ended='sudo docker inspect -f "{{.State.Status}} {{.State.ExitCode}}" imgcls'

failures=0
while :; do
  case $(state) in
    ACTIVE) ;;
    '')
      queued create "$name" --node-id="$name" --accelerator-type="$accelerator" --runtime-version="$runtime" --spot ||
        exit 1
      ;;
    SUSPENDED | SUSPENDING | FAILED) queued delete "$name" --quiet --force || sleep "$pause" ;;
  esac
  until [ "$(state)" = ACTIVE ]; do
    case $(state) in SUSPENDED | SUSPENDING | FAILED | '') continue 2 ;; esac
    sleep "$pause"
  done
  on all "$start"
  result=$(on 0 "$ended") # empty where the slice is gone
  case $result in
    'exited 75') on all 'sudo docker rm imgcls' && failures=0 ;; # saved, and to be started again
    exited\ *)
      queued delete "$name" --quiet --force
      exit "${result#exited }"
      ;;
    '') failures=$((failures + 1)) ;;
    *) failures=0 ;; # it is running: the connection was lost
  esac
  if [ "$failures" -eq 5 ] && [ "$(state)" = ACTIVE ]; then
    echo "error: the run does not start on $name: the lines above say why" >&2
    exit 1
  fi
  sleep "$pause"
done
