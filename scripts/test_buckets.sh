#!/usr/bin/env bash
# A run on a bucket, against emulators of S3 (moto) and Google Cloud Storage (gcp-storage-emulator) from PyPI: the tests
# of seg_jax.runs.bucket, then a training of the quick U-Net that is stopped, goes on elsewhere and is evaluated.
#   scripts/test_buckets.sh [s3://runs/net|gs://runs/net]     default: a training on each
# STEPS: of the training (default 60).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/setup.sh"
steps=${STEPS:-60}
extra=${BUCKETS_EXTRA:-$root/.venv-launch/buckets} # beside the environment, not in it
[ -d "$extra/s3fs" ] || "$python" -m pip install --quiet --disable-pip-version-check --target "$extra" \
  s3fs gcsfs "moto[server]" gcp-storage-emulator
export PYTHONPATH=$extra
dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT

export AWS_ENDPOINT_URL=http://127.0.0.1:${S3_PORT:-17911} AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-east-1
export STORAGE_EMULATOR_HOST=http://127.0.0.1:${GCS_PORT:-17912}
"$python" -m moto.server -p "${S3_PORT:-17911}" >"$dir/s3.log" 2>&1 &
pids+=($!)
"$python" -c "import sys; from gcp_storage_emulator.__main__ import main; sys.exit(main(sys.argv[1:]))" \
  start --host 127.0.0.1 --port "${GCS_PORT:-17912}" --in-memory --default-bucket runs >"$dir/gcs.log" 2>&1 &
pids+=($!)
for _ in $(seq 120); do # until both answer
  ! "$python" -c "import socket, sys
for port in sys.argv[1:]: socket.create_connection(('127.0.0.1', int(port)), 1)" "${S3_PORT:-17911}" "${GCS_PORT:-17912}" 2>/dev/null || break
  sleep 1
done
"$python" -c "import s3fs; s3fs.S3FileSystem().mkdir('runs')"
SEG_JAX_TEST_BUCKETS="s3://runs/tests/net gs://runs/tests/net" "$python" -m pytest -q -n 0 tests/runs/test_bucket.py

# An array, not a function: in the background a signal must reach Python, not a shell around it.
train=("$python" -m seg_jax train unet_synthetic --train.steps "$steps" --train.checkpoint-every 20 --train.log-every 1
  --model.width 0.125 --train.batch-size 2 --data.augmentation.crop 32 32 --train.evaluate-first no)
export JAX_PLATFORMS=cpu SEG_JAX_DATA=${SEG_JAX_DATA:-$dir/data} JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$dir/xla}
"${train[@]}" --workdir "$dir/whole"
[ $# -gt 0 ] || set -- s3://runs/net gs://runs/net
for run in "$@"; do
  export SEG_JAX_CACHE=$dir/one
  "${train[@]}" --workdir "$run" &
  training=$!
  until ls "$dir"/one/buckets/*/runs/net/checkpoints/*20 >/dev/null 2>&1; do
    kill -0 "$training" || exit 1
    sleep 0.1
  done
  kill -TERM "$training"
  code=0
  wait "$training" || code=$?
  [ "$code" = 75 ] || [ "$code" = 0 ] || exit "$code" # 0: it was over before the signal came
  export SEG_JAX_CACHE=$dir/two # another machine: all that it knows is on the bucket
  "${train[@]}" --workdir "$run"
  "$python" - "$dir/whole" "$dir"/two/buckets/*/runs/net "$run" "$steps" "$code" <<'P'
import sys
from pathlib import Path

import fsspec
import jax
import numpy as np

from seg_jax.runs import checkpoint

whole, ours = [checkpoint.restore_variables(Path(run))[1:] for run in sys.argv[1:3]]
assert whole[1] == ours[1] == int(sys.argv[4]), (whole[1], ours[1])
for left, right in zip(jax.tree.leaves(whole[0]), jax.tree.leaves(ours[0]), strict=True):
    np.testing.assert_array_equal(left, right)
fs, place = fsspec.core.url_to_fs(sys.argv[3])
names = [path.removeprefix(place.strip("/") + "/") for path in fs.find(place)]
assert "metrics.jsonl" in names and "config.json" in names and ".training" not in names, names
print(f"{sys.argv[3]}: stopped with code {sys.argv[5]}, ends with the bits of a run that was not; {len(names)} files there")
P
  "$python" -m seg_jax evaluate "$run" --split val >/dev/null
  "$python" -c "import fsspec, sys; assert fsspec.core.url_to_fs(sys.argv[1])[0].exists(sys.argv[1] + '/result.json')" "$run"
  rm -rf "$dir/one" "$dir/two"
done
