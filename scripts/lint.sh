#!/usr/bin/env bash
# Checks the code without running it: format and rules (ruff), types (pyright, basic), and the locked
# versions of other people's (pip-audit).
# scripts/lint.sh --fix formats and mends what ruff can mend first.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
case ${1:-} in
--fix)
  "$python" -m ruff format .
  "$python" -m ruff check --fix .
  ;;
"") ;;
*)
  echo "usage: scripts/lint.sh [--fix]" >&2
  exit 2
  ;;
esac
"$python" -m ruff format --check .
"$python" -m ruff check .
"$python" -m pyright --pythonpath "$python"

# Known vulnerabilities of the locked versions, where their data base can be asked.
if "$python" -c 'import socket; socket.create_connection(("api.osv.dev", 443), timeout=5)' 2>/dev/null; then
  [ -x .venv-audit/bin/pip-audit ] || { "$python" -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit; }
  .venv-audit/bin/pip-audit --vulnerability-service osv --requirement requirements.lock --no-deps --disable-pip
else
  echo "requirements.lock: known vulnerabilities not looked up (api.osv.dev cannot be reached)"
fi
