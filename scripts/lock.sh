#!/usr/bin/env bash
# Writes requirements.lock anew: the newest versions that fit requirements.txt and requirements-dev.txt,
# for Python 3.11 and later on every platform. Arguments go to `uv pip compile`, e.g. --upgrade-package jax.
# Without any, what is locked stays as it is where it still fits; --upgrade renews all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install --quiet --disable-pip-version-check uv
exec "$python" -m uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
  --custom-compile-command "bash scripts/lock.sh" --output-file requirements.lock \
  requirements.txt requirements-dev.txt "$@"
