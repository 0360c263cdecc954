#!/usr/bin/env bash
# Compares the networks with third parties' in PyTorch and writes experiments/parity.json.
# PyTorch is installed into an environment of its own, .venv-parity. Arguments go to pytest: a run without
# any writes the file anew, a run of some tests updates their entries.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SEG_JAX_VENV=${SEG_JAX_VENV:-$root/.venv-parity}
source "$root/scripts/setup.sh"
pip=("$python" -m pip install --quiet --disable-pip-version-check)
# PyTorch's own index has the build without CUDA; PyPI's, the fallback, is larger.
"$python" -c "import torch" 2>/dev/null ||
  "${pip[@]}" --timeout 5 --retries 0 torch --index-url https://download.pytorch.org/whl/cpu ||
  "${pip[@]}" torch==2.13.0
# Without their dependencies: torchvision would ask for one exact torch.
"$python" -c "import importlib.util as u, sys; sys.exit(not (u.find_spec('torchvision') and u.find_spec('segmentation_models_pytorch') and u.find_spec('timm')))" ||
  { "${pip[@]}" --no-deps torchvision timm segmentation-models-pytorch && "${pip[@]}" safetensors huggingface-hub pyyaml; }
"$python" -c "import ai_edge_litert" 2>/dev/null || "${pip[@]}" ai-edge-litert # Google's runtime; its tests need SEG_JAX_TEST_DATA
[ $# -gt 0 ] || rm -f experiments/parity.json
SEG_JAX_WRITE_PARITY=${SEG_JAX_WRITE_PARITY:-1} exec "$python" -m pytest tests/parity "$@"
