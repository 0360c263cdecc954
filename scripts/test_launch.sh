#!/usr/bin/env bash
# What `launch` hands to engines that are extras: submitit's own script (golden), and SkyPilot's own parser over every
# task and every example. Nothing is submitted. Arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/setup.sh"
extra=$root/.venv-launch/submitit
[ -d "$extra/submitit" ] || "$python" -m pip install --quiet --disable-pip-version-check --target "$extra" submitit
PYTHONPATH=$extra "$python" -m pytest tests/launch "$@"

# SkyPilot wants other versions of much that seg_jax uses: an environment of its own.
sky=${SKY_VENV:-$root/.venv-launch/sky}
[ -x "$sky/bin/sky" ] || {
  "$python" -m venv "$sky"
  "$sky/bin/python" -m pip install --quiet --disable-pip-version-check skypilot
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
for file in tests/launch/golden/*.yaml; do
  case $file in */jobset.yaml) continue ;; esac
  # The golden run folder and buckets are not here: the parser looks for the one and would ask for the other.
  sed "s|^workdir:.*|workdir: $work/source|" "$file" >"$work/task.yaml"
  "$sky/bin/python" - "$work/task.yaml" "$file" <<'P'
import sys

import sky
import yaml
from sky.utils import schemas
from sky.utils.common_utils import validate_schema

content = yaml.safe_load(open(sys.argv[1]))
validate_schema(content, schemas.get_task_schema(), "not a task of SkyPilot: ")
mounts = content.pop("file_mounts", {})  # a bucket is asked for as soon as it is made an object
task = sky.Task.from_yaml_config(content)
for path, mount in mounts.items():
    validate_schema(mount, schemas.get_storage_schema(), f"not a mount of SkyPilot, {path}: ")
(resources,) = task.resources
print(f"{sys.argv[2]}: SkyPilot {sky.__version__} reads {resources}, {task.num_nodes} node(s)")
P
done
