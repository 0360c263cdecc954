#!/usr/bin/env bash
# Trains, evaluates and tabulates every family on drawn images: the suite `quick`. About 10 minutes on two CPU cores.
# Writes runs/quick/table.md and runs/quick/report.html; a second call reuses what is done.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec "$python" -m seg_jax reproduce quick "$@"
