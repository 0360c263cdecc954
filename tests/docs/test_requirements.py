"""requirements.lock fits the bounds beside it, on every Python that the package takes."""

import fnmatch
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from pages import ROOT

PYTHONS = ("3.11", "3.12", "3.13")


def requirements(name):
    """Return the requirements of a file, comments and continued hashes left out."""
    lines = (
        re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / name).read_text().splitlines()
    )
    return [Requirement(line) for line in lines if line]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(python):
    """Return {package: version} for Linux."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    found = {}
    for pin in requirements("requirements.lock"):
        if pin.marker is None or pin.marker.evaluate(environment):
            (exact,) = pin.specifier
            assert exact.operator == "==" and canonical(pin.name) not in found
            found[canonical(pin.name)] = exact.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_lock_fits_the_bounds(file, python):
    pins = locked(python)
    for wanted in requirements(file):
        version = pins.get(canonical(wanted.name))
        assert version and wanted.specifier.contains(version), (
            f"requirements.lock has {wanted.name} {version} for Python {python}, {file} wants "
            f"{wanted.specifier}: run `bash scripts/lock.sh`"
        )


def test_tests_are_no_part_of_what_running_needs():
    needed = {canonical(wanted.name) for wanted in requirements("requirements.txt")}
    assert not needed & {"pytest", "pytest-xdist", "hypothesis", "ruff", "pyright"}


def test_every_extra_has_its_file_and_none_is_forgotten():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = settings["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert extras.keys() == {
        "bands", "dev", "export", "import", "jpeg", "launch", "sweep-db", "tracking", "video",
    }  # fmt: skip
    needed = {canonical(wanted.name) for wanted in requirements("requirements.txt")}
    for name, entry in extras.items():
        assert entry["file"] == f"requirements-{name}.txt"
        found = {canonical(wanted.name) for wanted in requirements(entry["file"])}
        assert found and not found & needed, "an extra adds something"
        assert name == "dev" or not found & {"pytest", "hypothesis"}


def test_the_wheel_has_every_file_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    files = [path for path in (ROOT / "seg_jax").rglob("*") if path.is_file()]
    assert any(path.name == "py.typed" for path in files)
    for path in files:
        if path.suffix not in (".py", ".md") and "__pycache__" not in path.parts:
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path
    packages = {path.parent for path in files if path.suffix == ".py"}
    assert {path.parent for path in files if path.suffix in (".toml", ".txtpb")} <= packages
