#!/usr/bin/env bash
# Trains, evaluates and tabulates every family on drawn images: the suite `quick`. About 5 minutes on two CPU cores.
# Writes runs/quick/table.md and runs/quick/report.html; a second call reuses what is done.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# A third of the time is compilation. On the CPU it takes half as long so, and what it compiles runs 2 % slower. Not where
# JAX finds a GPU or TPU; and XLA ends a process with flags that it does not know.
flags="${XLA_FLAGS:-} --xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
if XLA_FLAGS=$flags "$python" -c 'import jax; assert jax.default_backend() == "cpu"' 2>/dev/null; then export XLA_FLAGS=$flags; fi
exec "$python" -m seg_jax reproduce quick "$@"
