#!/usr/bin/env bash
# A SLURM of one node on this machine, and a training on it that is interrupted and goes on: the quick U-Net on two
# tasks of one CPU through `launch`, requeued while it trains, must end with the bits of a run that was not.
# Needs root (installs Debian's slurm-wlm and munge where they are missing). STEPS: of each run (default 40).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/setup.sh"
steps=${STEPS:-40}
dir=$(mktemp -d)
host=$(hostname -s)

stop() {
  code=$?
  squeue -h -o %i 2>/dev/null | xargs -r scancel || true
  sleep 1
  for signal in TERM KILL; do
    for daemon in slurmd slurmctld munged; do
      [ ! -f "$dir/$daemon.pid" ] || kill -s "$signal" "$(cat "$dir/$daemon.pid")" 2>/dev/null || true
    done
    sleep 2
  done
  [ "$code" = 0 ] && rm -rf "$dir" || echo "logs are in $dir" >&2
}
trap stop EXIT

if ! command -v slurmctld >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >"$dir/apt.log" 2>&1
fi
# submitit beside the environment, not in it: it is an extra.
extra=$root/.venv-launch/submitit
[ -d "$extra/submitit" ] || "$python" -m pip install --quiet --disable-pip-version-check --target "$extra" submitit
export PYTHONPATH=$extra

# A munge of our own, so that one that is running is left alone.
chmod 755 "$dir"
mkdir -p "$dir/munge" "$dir/state" "$dir/spool"
dd if=/dev/urandom of="$dir/munge/key" bs=1024 count=1 status=none
chmod 600 "$dir/munge/key"
munged --force --key-file "$dir/munge/key" --socket "$dir/munge/socket" --pid-file "$dir/munged.pid" \
  --log-file "$dir/munge/log" --seed-file "$dir/munge/seed"
cat >"$dir/slurm.conf" <<C
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURM_TEST_PORT:-16917}
SlurmdPort=$((${SLURM_TEST_PORT:-16917} + 1))
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
SlurmUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
KillWait=120
JobRequeue=1
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=here Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
C
export SLURM_CONF=$dir/slurm.conf
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N "$host"
for _ in $(seq 30); do
  ! sinfo -h -o %T 2>/dev/null | grep -q idle || break
  sleep 1
done
sinfo

cat >"$dir/clusters.toml" <<T
[here]
engine = "slurm"
partition = "here"
setup = ["export PATH=$(dirname "$python"):\$PATH JAX_PLATFORMS=cpu XLA_FLAGS=--xla_cpu_multi_thread_eigen=false"]
options = { mem = "1900M" }
T
export SEG_JAX_CLUSTERS=$dir/clusters.toml

launch() { # RUN: start the quick U-Net, print the job's id
  "$python" -m seg_jax launch unet_synthetic --on slurm --workdir "$1" --tasks-per-node 2 --cpus 1 --time 60m \
    --train.steps "$steps" --train.checkpoint-every "$steps" --train.log-every 1 --model.width 0.125 \
    --train.batch-size 2 --data.augmentation.crop 32 32
}
state() { squeue -h -j "$1" -o %T 2>/dev/null || true; }
wait_for() { # ID: until the job has left the queue
  while [ -n "$(state "$1")" ]; do sleep 2; done
}
id_of() { "$python" -c "import json, sys; print(json.load(open(sys.argv[1] + '/launch/job.json'))['ids'][0])" "$1"; }

launch "$dir/undisturbed"
wait_for "$(id_of "$dir/undisturbed")"

launch "$dir/disturbed"
job=$(id_of "$dir/disturbed")
# In the middle: after a few steps are in the log.
until [ "$(grep -c '"train"' "$dir/disturbed/metrics.jsonl" 2>/dev/null || true)" -ge 5 ] 2>/dev/null; do
  [ -n "$(state "$job")" ] || { tail -50 "$dir"/disturbed/launch/logs/*.out >&2; exit 1; }
  sleep 0.2
done
scontrol requeue "$job"
echo "requeued $job after $(tail -n 1 "$dir/disturbed/metrics.jsonl")"
# SLURM would wait two minutes before it starts a requeued job.
until [ "$(state "$job")" != COMPLETING ] && [ "$(state "$job")" != RUNNING ]; do sleep 1; done
scontrol update JobId="$job" StartTime=now
wait_for "$job"

"$python" - "$dir/undisturbed" "$dir/disturbed" "$steps" <<'P'
import json
import sys
from pathlib import Path

import jax
import numpy as np

from seg_jax.runs import checkpoint

runs, steps = [Path(path) for path in sys.argv[1:3]], int(sys.argv[3])
found = [checkpoint.restore_variables(run) for run in runs]
assert [step for _, _, step in found] == [steps, steps], [step for _, _, step in found]
leaves = [jax.tree.leaves(variables) for _, variables, _ in found]
assert len(leaves[0]) == len(leaves[1]) > 0
for ours, theirs in zip(*leaves, strict=True):
    np.testing.assert_array_equal(ours, theirs)
events = [line for line in map(json.loads, (runs[1] / "metrics.jsonl").read_text().splitlines()) if "resumed" in str(line)]
assert events, "the disturbed run never resumed"
print(f"{len(leaves[0])} arrays after step {steps} are equal to the bit; {events[0]}")
P
"$python" -m seg_jax jobs "$dir"
