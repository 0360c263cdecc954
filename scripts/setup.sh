# Sourced by the scripts beside it: makes .venv with what the requirement files name, once per change
# of them.
#   SEG_JAX_VENV: the environment's folder (default .venv)
#   SEG_JAX_REQUIREMENTS: the file to install; requirements.lock for the exact versions
#     (default requirements.txt, and requirements-dev.txt for the tests)
#   PYTHON: the interpreter that makes the environment
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=${SEG_JAX_VENV:-$root/.venv}

find_python() {
  for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "seg_jax needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2
  return 1
}

requirements=(-r "${SEG_JAX_REQUIREMENTS:-requirements.txt}" -r requirements-dev.txt)
stamp=$(cat "${SEG_JAX_REQUIREMENTS:-requirements.txt}" requirements-dev.txt pyproject.toml | cksum)
if [ "$(cat "$venv/.seg_jax" 2>/dev/null || true)" != "$stamp" ]; then
  python=$(find_python)
  echo "installing into $venv with $("$python" --version)"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "could not make $venv (on Debian and Ubuntu: apt-get install python3-venv)" >&2
    exit 1
  }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
  echo "$stamp" >"$venv/.seg_jax"
fi
python=$venv/bin/python
