"""Damages files and reads them, under limits: worker.py OUT SEED CASES READER...

Every case may take 1 GiB of address space beyond what the process had before, and 5 s of processor
time; it ends with a reading or a UserError in one line. OUT/log gets a JSON line before each case,
so that the parent knows which one ended the process, and one for each failure.
"""

import gc
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from readers import READERS, Reader

from seg_jax.checks import UserError

GIB = 2**30
SECONDS, BLOCKED_SECONDS = 5, 60  # of processor time; of waiting
VALUES = [
    None, True, 0, 3, -1, 2**31, 2**70, -(2**70), 1e308, float("nan"), float("inf"),
    "", "x", "\x1b[2J", "../../elsewhere", "/dev/zero", "x" * 5000, [], [1], [[]], {},
    {"type": 1}, {"type": []}, {"type": "os.system"}, {"type": "seg_jax.experiment.TrainConfig"},
    {"type": "etils.epy.lazy_imports_utils.LazyModule"},
]  # fmt: skip
NUMBERS = [
    bytes(4), b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80" * 9 + b"\1"
]  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one to four changes of any kind."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del data[place:]
        elif kind == 1 and data:
            data[min(place, len(data) - 1)] = rng.randrange(256)
        elif kind == 2 and data:
            data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 3:
            number = rng.choice(NUMBERS)
            data[place : place + len(number)] = number
        elif kind == 4:
            data[place:place] = data[place : place + rng.randint(1, 64)]
        else:
            del data[place : place + rng.randint(1, 64)]
    return bytes(data)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Return the JSON text with one value or key replaced or removed."""
    data = {"top": json.loads(content)}
    node, key = data, "top"
    while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
        node = node[key]
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    kind = rng.randrange(4)
    if kind == 0 and node is not data:
        del node[key]
    elif kind == 1 and isinstance(node, dict) and node is not data:
        node[rng.choice(["x", "type", "parent", "name", "\x1b[2J"])] = node.pop(key)
    else:
        node[key] = rng.choice(VALUES)
    return json.dumps(data.get("top")).encode()


def address_space() -> int:
    """Return the bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def note(out: Path, **values: object) -> None:
    """Add a line to OUT/log; the file is closed, so that nothing is lost with the process."""
    with (out / "log").open("a") as log:
        log.write(json.dumps(values) + "\n")


def run(name: str, reader: Reader, seed: str, cases: int, out: Path) -> None:
    """Damage and read the files of one reader."""
    with tempfile.TemporaryDirectory() as scratch:
        valid, folder = Path(scratch) / "valid", Path(scratch) / "folder"
        valid.mkdir()
        reader.make(valid)
        targets = sorted(
            {
                path.relative_to(valid)
                for pattern in reader.files
                for path in valid.glob(pattern)
                if path.is_file()
            }
        )
        for case in range(-1, cases // reader.cost):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(valid, folder)
            if case < 0:
                reader.read(folder)  # loads libraries; the valid file must be read
                gc.collect()
                note(out, reader=name, case=case)
                limit = address_space() + GIB
                resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
                continue
            rng = random.Random(f"{name} {seed} {case}")
            path = folder / rng.choice(targets)
            change = damaged_json if reader.text and rng.random() < 0.7 else damaged
            path.write_bytes(change(path.read_bytes(), rng))
            shutil.copy(path, out / "damaged")  # of the last case, to look at
            note(out, reader=name, case=case, file=path.name)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(BLOCKED_SECONDS)
            error = ""
            try:
                reader.read(folder)
            except UserError as found:
                if "\n" in str(found) or not str(found):
                    error = f"not one line: {str(found)!r}"
            except BaseException:
                error = traceback.format_exc()
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            if error:
                note(out, reader=name, case=case, error=error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def main(out: str, seed: str, cases: str, *names: str) -> None:
    """Run the readers; the kernel ends the process where a case takes too long."""
    warnings.simplefilter("ignore")
    for name in names:
        run(name, READERS[name], seed, int(cases), Path(out))
    note(Path(out), done=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
