#!/usr/bin/env bash
# Runs the tests that are not marked slow. Arguments go to pytest: scripts/test.sh -m slow, scripts/test.sh -k crf.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
case " $* " in
*" -m "*) ;;
*) # Compiling is most of what these tests do, and takes a fifth less without LLVM's optimisation; what they compile runs slower.
  set -- -m "not slow" "$@"
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=0"
  ;;
esac
exec "$python" -m pytest -n 2 "$@"
