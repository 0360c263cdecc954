#!/usr/bin/env bash
# A SLURM of one node on this machine, and a training on it that is interrupted and goes on: the quick U-Net on two
# tasks of one CPU through `launch`. It is requeued while it trains (SIGUSR1, and SIGTERM while it saves), then warned
# of its time limit (SIGUSR1), and must end with the bits of a run that was left alone.
# Needs root (installs Debian's slurm-wlm and munge where they are missing). STEPS: of each run; they must last longer
# than SLURM takes to warn, up to 30 s.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/setup.sh"
steps=${STEPS:-800}
port=${SLURM_TEST_PORT:-16917} # and the one after it
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

command -v slurmctld slurmd munged >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >"$dir/apt.log" 2>&1
}
# submitit beside the environment, not in it: it is an extra.
extra=$root/.venv-launch/submitit
[ -d "$extra/submitit" ] || "$python" -m pip install --quiet --disable-pip-version-check --target "$extra" submitit
export PYTHONPATH=$extra SEG_JAX_DATA=${SEG_JAX_DATA:-$dir/data}

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
SlurmctldPort=$port
SlurmdPort=$((port + 1))
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

launch() { # RUN: start the quick U-Net
  "$python" -m seg_jax launch unet_synthetic --on slurm --workdir "$1" --tasks-per-node 2 --cpus 1 --time 60m \
    --train.steps "$steps" --train.checkpoint-every "$steps" --train.log-every 1 --model.width 0.125 \
    --train.batch-size 4 --data.augmentation.crop 64 64
}
id_of() { "$python" -c "import json, sys; print(json.load(open(sys.argv[1] + '/launch/job.json'))['ids'][0])" "$1"; }
state() { squeue -h -j "$1" -o %T 2>/dev/null || true; }
wait_for() { # ID: until the job has left the queue
  while [ -n "$(state "$1")" ]; do sleep 1; done
}
steps_of() { grep -c '"train"' "$1/metrics.jsonl" 2>/dev/null || true; } # RUN: lines that tell of a step
saved_lines() { cat "$1"/launch/logs/*_0_log.out | grep -c "ended with code 75" || true; }
fail() {
  echo "$1" >&2
  tail -n 40 "$dir"/disturbed/launch/logs/*.out >&2
  exit 1
}
wait_steps() { # RUN ID COUNT: until so many steps are in the log
  until [ "$(steps_of "$1")" -ge "$3" ] 2>/dev/null; do
    [ -n "$(state "$2")" ] || fail "job $2 ended at step $(steps_of "$1"), before it could be interrupted"
    sleep 0.2
  done
}
start_again() { # ID: SLURM would wait for two minutes before it starts a requeued job
  until [ "$(state "$1")" = PENDING ]; do
    [ -n "$(state "$1")" ] || fail "job $1 was not requeued"
    sleep 0.5
  done
  scontrol update JobId="$1" StartTime=now TimeLimit=60
}

launch "$dir/undisturbed"
wait_for "$(id_of "$dir/undisturbed")"
[ "$(steps_of "$dir/undisturbed")" = "$steps" ] || fail "the undisturbed run has $(steps_of "$dir/undisturbed") steps"

run=$dir/disturbed
launch "$run"
job=$(id_of "$run")
wait_steps "$run" "$job" 5
scancel --signal=USR1 "$job"
scontrol requeue "$job"
echo "SIGUSR1 and SIGTERM after step $(steps_of "$run")"
start_again "$job"
[ "$(saved_lines "$run")" = 1 ] || fail "the first process did not end with code 75"

wait_steps "$run" "$job" $(($(steps_of "$run") + 5))
# Less than the two minutes before the end at which `launch` asks for the warning.
ran=$(squeue -h -j "$job" -o %M | awk -F: '{ print $(NF - 1) }')
scontrol update JobId="$job" TimeLimit=$((10#$ran + 2))
echo "a time limit of $((10#$ran + 2)) min after step $(steps_of "$run")"
start_again "$job"
[ "$(saved_lines "$run")" = 2 ] || fail "the first process did not end with code 75 before its time limit"
wait_for "$job"

"$python" - "$dir/undisturbed" "$run" "$steps" <<'P'
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
lines = [json.loads(line) for line in (runs[1] / "metrics.jsonl").read_text().splitlines()]
resumed = [line["step"] for line in lines if str(line.get("message", "")).startswith("resumed")]
assert len(resumed) == 2 and 0 < resumed[0] < resumed[1] < steps, [line for line in lines if line["kind"] == "event"]
print(f"{len(leaves[0])} arrays after step {steps} are equal to the bit; saved with code 75 at steps {resumed}")
P
"$python" -m seg_jax jobs "$dir"
