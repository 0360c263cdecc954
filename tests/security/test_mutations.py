"""Damaged files of every kind are read, or refused in one line, in bounded memory and time.

`readers.py` lists the kinds; `worker.py` says what is done to the files, and under which limits.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from readers import HELPERS, READERS

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "seg_jax"
SEED = "2026"


def test_every_reader_is_listed():
    """A module in a folder of readers, or one that parses JSON, has a file here to be damaged."""
    folders = [PACKAGE / "pretrained" / "formats", PACKAGE / "data" / "datasets"]
    found = {path for folder in folders for path in folder.glob("*.py")}
    found |= {
        path
        for path in PACKAGE.rglob("*.py")
        if any(call in path.read_text() for call in ("json.loads(", "files.read_json(", "np.load("))
    }
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in found
        if path.name != "__init__.py"
    }
    listed = {module for reader in READERS.values() for module in reader.modules}
    assert names - listed - HELPERS.keys() == set()


def damage(names, cases, tmp_path, seed=SEED):
    """Return the failures of the readers: (reader, number of the case, what happened)."""
    waiting, failures = list(names), []
    while waiting:  # a reader that ends the process does not hide those after it
        (tmp_path / "log").write_text("")
        done = subprocess.run(
            [sys.executable, HERE / "worker.py", tmp_path, seed, str(cases), *waiting],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, (PACKAGE.parent, HERE.parent, HERE))),
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": "",
                "OMP_NUM_THREADS": "1",
            },
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=3600,
        )
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        failures += [
            (line["reader"], line["case"], line["error"]) for line in lines if "error" in line
        ]
        if lines and "done" in lines[-1]:
            break
        last = lines[-1] if lines else {"reader": waiting[0], "case": None}
        ended = f"the process ended with {done.returncode}: {done.stderr[-2000:]}"
        failures.append((last["reader"], last["case"], ended))
        waiting = waiting[waiting.index(last["reader"]) + 1 :]
    return failures


def told(failures):
    """Return the first failure of each reader whole, of the others only where they were."""
    seen = set()
    for name, case, error in failures:
        if name not in seen:
            yield f"{name}, case {case}:\n{error}"
        seen.add(name)
    yield f"{len(failures)} failures: {[failure[:2] for failure in failures]}"


def test_damaged_files_are_read_or_refused(tmp_path):
    failures = damage(READERS, 24, tmp_path)
    assert not failures, "\n".join(told(failures))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS))
def test_many_damaged_files_are_read_or_refused(name, tmp_path):
    failures = damage([name], 1000, tmp_path, seed="slow")
    assert not failures, "\n".join(told(failures))
