"""The one-way imports of the house (CONTRIBUTING, "Import order"), read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIGHT = {"types", "checks", "config", "published"}
# What each part may import of the package besides itself and LIGHT.
MAY_IMPORT = {
    "types": set(),
    "checks": set(),
    "published": set(),
    "config": set(),
    "space": set(),
    "nn": set(),
    "kernels": set(),
    "backbones": {"nn"},
    "models": {"nn", "backbones", "kernels"},
    "losses": set(),
    "metrics": set(),
    "optim": set(),
    "parallel": set(),
    "logs": set(),
    "pictures": set(),
    "picture_files": set(),
    "data": {"pictures"},
    "step": {"losses", "optim", "parallel"},
    "crf": {"kernels"},
    "experiment": {"losses", "optim", "data", "kernels"},
}
_LATE = {
    "run_folder",
    "checkpoint",
    "warm_start",
    "reporting",
    "train",
    "cutting",
    "stitching",
    "inference",
    "protocols",
    "tally",
    "evaluate",
    "predict",
    "submission",
    "submission_check",
    "submit_verb",
    "pretrained",
}
_CORE = set(MAY_IMPORT) - {"nn", "backbones", "models"}
for part in _LATE:
    MAY_IMPORT[part] = _CORE | _LATE
MAY_IMPORT["pretrained"] |= {"nn", "backbones", "models"}  # weights go to layers by their names
MAY_IMPORT["inference"] |= {"nn"}  # how it resizes
_TOP = {
    "data_verbs", "weights_verbs", "analysis", "study", "sweep", "launch", "results", "report",
    "publish", "reproduce", "deploy", "export_verb", "crf_search", "crf_verbs",
}  # fmt: skip
for part in _TOP:
    MAY_IMPORT[part] = _CORE | _LATE | _TOP
MAY_IMPORT["analysis"] |= {"nn"}
MAY_IMPORT["deploy"] |= {"nn"}  # resizing, and convolutions as every runtime knows them
MAY_IMPORT["__main__"] = set(MAY_IMPORT) - {"nn", "backbones", "models"}
EXPERIMENTS_MAY_IMPORT = {
    "models", "backbones", "nn", "data", "optim", "losses", "crf", "experiment", "space",
}  # fmt: skip

# Parts that run on a bare GPU image.
BARE = {"nn", "backbones", "models", "kernels", "losses", "metrics", "optim", "parallel", "step"}
BARE_LIBRARIES = {"jax", "flax", "optax", "numpy", "scipy"}  # jax itself needs scipy
# Imported only where it is installed and the machine is a CPU: `kernels.crf.choose`.
BARE_EXCEPTIONS = {
    "kernels/crf/host_kernels.py": {"numba", "llvmlite"},
    "kernels/crf/exact_host_kernels.py": {"numba", "llvmlite"},
}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative import; write it absolute")
    return found


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "seg_jax")
    return relative.parts[0].removesuffix(".py")


FILES = sorted((ROOT / "seg_jax").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_package_imports_one_way(path):
    part = part_of(path)
    if part == "__init__":
        return
    allowed = MAY_IMPORT[part] | LIGHT | {part}
    for name in imported_modules(path):
        top, _, rest = name.partition(".")
        if top == "seg_jax":
            assert rest.split(".")[0] in allowed | {"__version__"}, (
                f"{path.name} ({part}) may not import {name}"
            )
        assert top != "experiments", f"{path.name} imports {name}: experiments are found by name"
        if top == "flax":
            assert part in {"nn", "backbones", "models"}, f"{path.name} imports flax"
        if part in BARE and top not in sys.stdlib_module_names:
            extra = BARE_EXCEPTIONS.get(path.relative_to(ROOT / "seg_jax").as_posix(), set())
            assert top in BARE_LIBRARIES | extra | {"seg_jax"}, f"{path.name} imports {top}"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda p: p.name)
def test_experiments_import_one_way(path):
    for name in imported_modules(path):
        top, _, rest = name.partition(".")
        if top == "seg_jax":
            assert rest.split(".")[0] in EXPERIMENTS_MAY_IMPORT | LIGHT, f"imports {name}"


def test_importing_the_package_is_cheap():
    heavy = "{'jax', 'numpy', 'grain', 'PIL'}"
    code = f"import seg_jax, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400, f"{path} is longer than 400 lines: split it"
