#!/usr/bin/env bash
# Makes .venv-export, which exports to ONNX and LiteRT too, and runs the tests of those formats in it.
# Arguments go to pytest. The converters go without their dependencies: see requirements-export.txt.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SEG_JAX_VENV=${SEG_JAX_VENV:-$root/.venv-export}
source "$root/scripts/setup.sh"
pip=("$python" -m pip install --quiet --disable-pip-version-check)
"$python" -c "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('jax2onnx', 'litert_converter', 'ai_edge_litert'))))" || {
  "${pip[@]}" -r requirements-export.txt
  "${pip[@]}" --no-deps "jax2onnx>=0.17" "litert-converter>=0.5"
}
exec "$python" -m pytest tests/export tests/docs/test_export_page.py "$@"
