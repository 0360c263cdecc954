#!/usr/bin/env bash
# The checks that need a GPU, for one that is at hand for minutes, on a machine without a network.
#
#   scripts/gpu.sh pack CAMVID WEIGHTS   on a machine with a network: .gpu/pack.tar.xz with the wheels that a CUDA
#                                        image lacks, all of CamVid, and MobileNetV2's ImageNet weights (a .tflite)
#   scripts/gpu.sh first                 9 minutes: environment, smoke, controlled, bench
#   scripts/gpu.sh second                6 minutes: environment, segnet, deterministic, conv, costs
#   scripts/gpu.sh STAGE...              single stages; `scripts/gpu.sh list` says what each does
#
# Every stage has a time limit, and one that fails does not end the run. What they find goes to $OUT (default
# runs/gpu/out) as it comes; summary.txt and summary.json say what ran, how long, and what failed.
# TINY=1 shrinks everything to a rehearsal on a CPU; $GPU_PYTHON is the interpreter (default python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${GPU_PYTHON:-python3}
case ${1:-list} in
pack)
  shift
  exec "$python" scripts/gpu/pack.py "$@"
  ;;
*) exec "$python" scripts/gpu/run.py "$@" ;;
esac
