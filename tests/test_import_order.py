"""The floors of the package: every room imports only from the floors below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seg_jax"
# From the ground up. A room is a module or package directly in `seg_jax`; rooms that stand in one
# tuple are on one floor, in the order in which they may import each other.
FLOORS: dict[str, tuple[str, ...]] = {
    "ground": ("types", "checks", "config", "files", "progress", "overrides", "plugins"),
    "parts": (
        "nn", "kernels", "backbones", "models", "metrics", "losses", "optim", "parallel",
        "train_state", "search_space", "papers", "data",
    ),
    "recipe": ("experiments", "experiment", "results"),
    "on disk, in use": ("runs", "inference", "analysis"),
    "weights": ("pretrained",),
    "doing": ("train", "evaluation", "report"),
    "composing": ("sweep", "export", "reproduce", "targets", "launch"),
    "command line": ("cli", "__main__"),
}  # fmt: skip
MOST_FLOORS, MOST_ROOMS = 10, 36
# What a recipe is made of: parts and what an experiment is.
EXPERIMENTS_MAY_IMPORT = {*FLOORS["ground"], *FLOORS["parts"], "experiment", "experiments"}

# Parts that run on a bare GPU image, with no other libraries than these.
BARE = {
    "nn", "backbones", "models", "kernels", "losses", "metrics", "optim", "parallel",
    "train_state", "train/step.py",
}  # fmt: skip
BARE_LIBRARIES = {"jax", "flax", "optax", "numpy", "scipy"}  # jax itself needs scipy
# Imported only where it is installed and the machine is a CPU: `kernels.crf.choose`.
BARE_EXCEPTIONS = {
    "kernels/crf/lattice_numba_kernels.py": {"numba", "llvmlite"},
    "kernels/crf/exact_numba_kernels.py": {"numba", "llvmlite"},
    "kernels/numba_options.py": {"numba"},
}
FLAX = {"nn", "backbones", "models"}
_HEIGHT = {
    room: (floor, place)
    for floor, rooms in enumerate(FLOORS.values())
    for place, room in enumerate(rooms)
}


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, `module.name` for `from module import`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative import; write it absolute")
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_on_a_floor():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(_HEIGHT)
    assert len(FLOORS) <= MOST_FLOORS and len(rooms) <= MOST_ROOMS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    room, inside = room_of(path), path.relative_to(PACKAGE).as_posix()
    bare = room in BARE or inside in BARE
    for name in imported_modules(path):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top == "seg_jax" and target in _HEIGHT and room != "__init__" and target != room:
            assert _HEIGHT[target] < _HEIGHT[room], f"{inside} may not import {name}: it is above"
        assert top != "experiments", f"{inside} imports {name}: experiments are found by path"
        if top == "flax":
            assert room in FLAX, f"{inside} imports flax"
        if bare and top not in sys.stdlib_module_names:
            extra = BARE_EXCEPTIONS.get(inside, set())
            assert top in BARE_LIBRARIES | extra | {"seg_jax"}, f"{inside} imports {top}"


def test_no_file_imports_in_a_circle():
    """Also within a room, and also where an import stands in a function."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    arrows = {
        name: {
            target
            for imported in imported_modules(path)
            for target in [imported if imported in names else imported.rpartition(".")[0]]
            if target in names and target not in (name, "seg_jax")
        }
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(arrows[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(names):
        visit(name, ())


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda p: p.name)
def test_experiments_import_parts_only(path):
    for name in imported_modules(path):
        top, _, rest = name.partition(".")
        if top == "seg_jax":
            assert rest.split(".")[0] in EXPERIMENTS_MAY_IMPORT, f"imports {name}"


def test_importing_the_package_is_cheap():
    heavy = "{'jax', 'numpy', 'grain', 'PIL'}"
    code = f"import seg_jax, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_contributing_has_the_same_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for floor, rooms in FLOORS.items():
        row = next((line for line in text.splitlines() if line.startswith(f"| {floor} |")), "")
        listed = [word for word in row.split("|")[2].replace("`", " ").split()] if row else []
        assert listed == [room for room in rooms], f"CONTRIBUTING, row {floor!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400, f"{path} is longer than 400 lines: split it"
