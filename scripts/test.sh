#!/usr/bin/env bash
# Runs the tests that are not marked slow. Arguments go to pytest: scripts/test.sh -m slow, scripts/test.sh -k crf.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
case " $* " in *" -m "*) ;; *) set -- -m "not slow" "$@" ;; esac
exec "$python" -m pytest -n 2 "$@"
