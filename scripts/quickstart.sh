#!/usr/bin/env bash
# Trains, evaluates and tabulates every family on drawn images: the suite `quick`. About 10 minutes on two CPU cores.
# Writes runs/quick/table.md and runs/quick/report.html; a second call reuses what is done.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# glibc returns every large buffer to the system and asks for it again: 40 % of the time of small networks.
export MALLOC_MMAP_MAX_=${MALLOC_MMAP_MAX_:-0} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-68719476736}
exec "$python" -m seg_jax reproduce quick "$@"
