#!/usr/bin/env bash
# Compiles for accelerators that are not here and writes experiments/targets.json and docs/targets.md, a program at a
# time, what takes least first. What the file has is not compiled again: stop it (Ctrl-C, SIGTERM) and start it as you
# like, also several at once; what is cut off is not recorded.
#   scripts/targets.sh --install        makes .venv-targets with the TPU's compiler (140 MB beside the requirements)
#   scripts/targets.sh --install-gpu    adds the GPUs' compiler (4 GB)
#   scripts/targets.sh [--minutes N] [compile's arguments]     default: --all --for survey --effort quick
# One program takes 10 to 60 seconds of a core (without --effort quick one to five minutes for TPU); --minutes N ends
# after that time. Two cores: one run with --all --for v5e-8 ..., a second with --all --for h100x8 ...
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SEG_JAX_VENV=${SEG_JAX_VENV:-$root/.venv-targets}
source "$root/scripts/setup.sh"
pip=("$python" -m pip install --quiet --disable-pip-version-check)
has() { "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }

has libtpu || "${pip[@]}" -r requirements-targets.txt
case ${1:-} in
--install) exit ;;
--install-gpu)
  has jax_cuda13_plugin || "${pip[@]}" --no-deps -r requirements-targets-gpu.txt
  exit
  ;;
esac
limit=()
if [ "${1:-}" = --minutes ]; then
  limit=(--minutes "${2:?--minutes: of how many?}")
  shift 2
fi
[ $# != 0 ] || set -- --all --for survey --effort quick
# In the background, so that a signal to this shell reaches it; the page is written whatever happens.
nice -n 19 "$python" -m seg_jax compile "$@" --cycles --record experiments/targets.json "${limit[@]}" &
compiling=$!
trap 'kill -TERM "$compiling" 2>/dev/null || true' INT TERM HUP
code=0
wait "$compiling" || code=$?
while kill -0 "$compiling" 2>/dev/null; do wait "$compiling" || code=$?; done
trap - INT TERM HUP
JAX_PLATFORMS=cpu "$python" -m seg_jax.targets.page
exit "$code"
