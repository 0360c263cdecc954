#!/usr/bin/env bash
# The checks that need a GPU. Each takes less than ten minutes and works without a network.
#
#   scripts/gpu.sh wheels          on a machine with a network: downloads into .whl what a CUDA image with
#                                  JAX, Flax, Optax, Orbax and PyTorch lacks (Python 3.12)
#   scripts/gpu.sh tests           the test suite on the GPU
#   scripts/gpu.sh bench           every architecture beside compiled PyTorch in bfloat16
#   scripts/gpu.sh conv            dilated and depthwise convolutions: every lowering, in bfloat16
#   scripts/gpu.sh crf             the dense CRF: every implementation
#   scripts/gpu.sh deterministic   two runs of the quick U-Net under deterministic operations: the same bits
#   scripts/gpu.sh segnet ROOT     SegNet-Basic on CamVid (ROOT) from scratch, scored on its test split
#   scripts/gpu.sh unet ROOT       U-Net on ISBI 2012 (ROOT) from scratch
#
# Logs and records go to $OUT (default runs/gpu).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-runs/gpu}
mkdir -p "$OUT"

collect_wheels() {
  local platforms=()
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
  done
  for name in alembic array-record colorlog docstring-parser grain immutabledict mako optuna simple-parsing sqlalchemy \
    tensorboardX tensorflow-datasets termcolor toml typeguard tyro; do
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
      "${platforms[@]}" -d .whl "$name" || echo "no wheel of $name" >&2
  done
  du -sh .whl
}

prepare() {
  if ls .whl/*.whl >/dev/null 2>&1; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl
    export PYTHONPATH=/tmp/site
  fi
  export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
  python3 -c "import jax; print(jax.__version__, jax.devices())"
}

train_and_score() { # NAME SPLIT OPTIONS...
  local name=$1 split=$2
  shift 2
  python3 -m seg_jax train "$name" --workdir "runs/gpu/$name" --train.precision bfloat16 "$@" 2>&1 | tee "$OUT/$name.log"
  python3 -m seg_jax evaluate "runs/gpu/$name" --split "$split" 2>&1 | tee -a "$OUT/$name.log"
  cp "runs/gpu/$name/result.json" "$OUT/$name.json"
}

stage=${1:?tests, bench, conv, crf, deterministic, segnet or unet; wheels before}
shift
case $stage in
wheels) collect_wheels ;;
tests)
  prepare
  JAX_PLATFORMS=cuda,cpu timeout 570 python3 -m pytest -q -m "not slow" -n 4 -x --maxfail 50 "$@" 2>&1 | tee "$OUT/tests.log"
  ;;
bench)
  prepare
  timeout 570 python3 scripts/bench.py --dtype bfloat16 --rounds 20 --output "$OUT" "$@"
  ;;
conv)
  prepare
  timeout 570 python3 scripts/bench_conv.py --dtype bfloat16 --batch 8 --rounds 20 "$@" | tee "$OUT/conv.txt"
  ;;
crf)
  prepare
  timeout 570 python3 scripts/bench_crf.py "$@" | tee "$OUT/crf.txt"
  ;;
deterministic)
  prepare
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"
  for run in first second; do
    rm -rf "runs/gpu/$run"
    python3 -m seg_jax train unet_synthetic --train.steps "${1:-100}" --workdir "runs/gpu/$run"
  done
  python3 - <<'END' | tee "$OUT/deterministic.txt"
import json
from pathlib import Path

first, second = (Path("runs/gpu", run, "metrics.jsonl").read_text().splitlines() for run in ("first", "second"))
losses = [[json.loads(line).get("loss") for line in lines] for lines in (first, second)]
print("the same losses" if losses[0] == losses[1] else f"losses differ: {losses}")
END
  ;;
segnet)
  prepare
  root=${1:?ROOT of CamVid}
  shift
  train_and_score segnet_basic_camvid test --data.root "$root" "$@"
  ;;
unet)
  prepare
  root=${1:?ROOT of ISBI 2012}
  shift
  train_and_score unet_isbi2012 val --data.root "$root" "$@"
  ;;
*)
  echo "no stage $stage: see the head of $0" >&2
  exit 1
  ;;
esac
