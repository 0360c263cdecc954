#!/usr/bin/env bash
# Checks the code without running it: format and rules (ruff), types (pyright, basic).
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
exec "$python" -m pyright --pythonpath "$python"
