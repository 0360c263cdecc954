#!/usr/bin/env bash
# Builds the site of docs/ into build/site, in an environment of its own, .venv-docs; warnings are errors.
# scripts/docs.sh serve shows it at http://127.0.0.1:8000 and rebuilds it after every change.
# SEG_JAX_FORGE: where links to files outside docs/ lead, e.g. https://github.com/OWNER/seg_jax/blob/main
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${SEG_JAX_DOCS_VENV:-.venv-docs}
stamp=$(cksum <docs/requirements.txt)
if [ "$(cat "$venv/.seg_jax" 2>/dev/null || true)" != "$stamp" ]; then
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
  echo "$stamp" >"$venv/.seg_jax"
fi
if [ "${1:-}" = serve ]; then
  shift
  exec "$venv/bin/python" -m mkdocs serve "$@"
fi
exec "$venv/bin/python" -m mkdocs build --strict --clean "$@"
