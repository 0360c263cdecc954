#!/usr/bin/env bash
# The main job on the embedded data set: trains, evaluates and tabulates the suite `quick`.
# Writes runs/quick/table.md and runs/quick/report.html; a second call reuses what is done.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec "$python" -m seg_jax reproduce quick "$@"
