"""Run checks on a GPU, each under its own time limit; `scripts/gpu.sh` has the commands.

Written to $OUT while they run, in four files (what is lent may return only a few): summary.txt,
summary.json, log.txt, and results.tar.gz with records, logs of runs, tables, and load.csv (second,
stage, busy cores, the GPU's load and memory). Checkpoints stay in runs/gpu/work. Standard library
only: packages that are missing are installed by the first stage.
"""

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import stages
from stages import Stage

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / ".gpu" / "pack.tar.xz"
KEPT = {".json", ".jsonl", ".csv", ".md", ".txt", ".log", ".html"}
LARGEST = 4 * 2**20  # bytes of a file in results.tar.gz
REFRESH = 15  # seconds between two copies of the results
GRACE = 12  # seconds to save and end, before a stage is killed
TINY = 20  # times the limit in a rehearsal, on whatever cores there are


@dataclasses.dataclass
class Outcome:
    """How a stage went."""

    stage: str
    state: str
    seconds: float
    limit: float
    found: str  # what the stage says of itself: its summary.md


class Runner:
    """Runs stages and keeps $OUT up to date."""

    def __init__(self, out: Path, work: Path, scratch: Path, *, tiny: bool):
        self.out, self.work, self.scratch, self.tiny = out, work, scratch, tiny
        self.outcomes: list[Outcome] = []
        self.running: subprocess.Popen | None = None
        self.started = time.monotonic()
        self.stage = ""
        for folder in (out, work, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def run(self, names: Sequence[str], *, words: Sequence[str] = ()) -> None:
        """Run stages in order; `words` are added to the command of the last."""
        ended = threading.Event()
        threading.Thread(target=self._refresh, args=(ended,), daemon=True).start()
        try:
            self._run(names, words)
        finally:
            ended.set()

    def _run(self, names: Sequence[str], words: Sequence[str]) -> None:
        spare = 0.0
        for name in names:
            stage = stages.STAGES[name]
            limit = stage.seconds * (TINY if self.tiny else 1)
            limit += spare if stage.takes_spare else 0
            more = words if name == names[-1] else ()
            outcome = self._stage(name, stage, limit, more)
            left = max(0.0, limit - outcome.seconds)
            spare = left if stage.takes_spare else spare + left
            self.outcomes.append(outcome)
            self.write()
            print(f"{name}: {outcome.state}, {outcome.seconds:.0f} s", flush=True)

    def _stage(self, name: str, stage: Stage, limit: float, more: Sequence[str]) -> Outcome:
        self.stage, folder = name, self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "summary.md").unlink(missing_ok=True)
        values = {
            "python": sys.executable, "work": str(folder), "scratch": str(self.scratch),
            "data": str(self.scratch / "data"), "pack": str(PACK), "limit": str(int(limit - 50)),
        }  # fmt: skip
        tiny = stage.tiny if self.tiny else ()
        command = [_fill(word, values) for word in (*stage.command, *tiny, *more)]
        began = time.monotonic()
        with (self.work / f"{name}.log").open("wb") as log:
            self.running = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=self._environment(),
                start_new_session=True,
            )  # fmt: skip
            state = _wait(self.running, limit)
        summary = folder / "summary.md"
        found = summary.read_text() if summary.exists() else _tail(self.work / f"{name}.log")
        return Outcome(name, state, round(time.monotonic() - began, 1), round(limit), found)

    def _environment(self) -> dict[str, str]:
        here = os.environ
        path = [str(self.scratch / "site"), str(ROOT), here.get("PYTHONPATH", "")]
        wanted = {
            "PYTHONPATH": ":".join(part for part in path if part),
            "PYTHONUNBUFFERED": "1",
            "JAX_COMPILATION_CACHE_DIR": str(self.scratch / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
            "SEG_JAX_DATA": str(self.scratch / "data"),
            "SEG_JAX_WEIGHTS": str(self.scratch / "weights"),
            "SEG_JAX_CACHE": str(self.scratch / "cache"),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # processes share the device
        }
        # A rehearsal may use the compiled programs that are there.
        kept = ("JAX_COMPILATION_CACHE_DIR",) if self.tiny else ()
        wanted = {key: value for key, value in wanted.items() if key not in kept or key not in here}
        return {**here, **wanted, **({"JAX_PLATFORMS": "cpu"} if self.tiny else {})}

    def end(self, *_) -> None:
        """End the stage that is running, write the summary, and exit."""
        if self.running is not None:
            _signal(self.running, signal.SIGKILL)
        self.write()
        os._exit(143)

    def _refresh(self, ended: threading.Event) -> None:
        before = _processor_times()
        while not ended.wait(REFRESH):
            now = _processor_times()
            total, idle = (b - a for a, b in zip(before, now, strict=True))
            busy = (os.cpu_count() or 1) * (total - idle) / max(1, total)
            before, seconds = now, time.monotonic() - self.started
            with (self.work / "load.csv").open("a") as load:
                load.write(f"{seconds:.0f},{self.stage},{busy:.1f},{_device()}\n")
            self.write()

    def write(self) -> None:
        """Write all four files."""
        with self._lock:
            content = {
                "seconds": round(time.monotonic() - self.started, 1),
                "tiny": self.tiny,
                "stages": [dataclasses.asdict(outcome) for outcome in self.outcomes],
            }
            _write(self.out / "summary.json", json.dumps(content, indent=1).encode())
            _write(self.out / "summary.txt", self.summary().encode())
            logs = sorted(self.work.glob("*.log"), key=lambda path: path.stat().st_mtime)
            parts = [
                f"==== {path.stem}\n".encode() + path.read_bytes()[-(2**20) :] for path in logs
            ]
            _write(self.out / "log.txt", b"\n".join(parts))
            _replace(self.out / "results.tar.gz", self._archive)

    def _archive(self, path: Path) -> None:
        with tarfile.open(path, "w:gz", compresslevel=4) as archive:
            for file in sorted(self.work.rglob("*")):
                if not _is_result(file):
                    continue
                content = file.read_bytes()  # once: a log may grow meanwhile
                entry = tarfile.TarInfo(str(file.relative_to(self.work)))
                entry.size, entry.mtime = len(content), int(file.stat().st_mtime)
                archive.addfile(entry, io.BytesIO(content))

    def summary(self) -> str:
        """Return what ran, how long, and what was found."""
        total = time.monotonic() - self.started
        lines = [f"{'tiny rehearsal, ' if self.tiny else ''}{total:.0f} s in all", ""]
        for one in self.outcomes:
            lines.append(f"{one.stage:14} {one.seconds:6.0f} of {one.limit:4.0f} s  {one.state}")
        for one in self.outcomes:
            lines += ["", f"== {one.stage}", one.found.strip()]
        return "\n".join(lines) + "\n"


def _processor_times() -> tuple[int, int]:
    """Return the time of all cores so far and how much of it was idle, in ticks; zeros: unknown."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return sum(ticks), ticks[3] + ticks[4]


def _device() -> str:
    """Return how busy the GPU is, in percent, and the MiB in use; empty without one."""
    query = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader")
    if not shutil.which(query[0]):
        return ""
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return "no answer"
    return found.stdout.strip()


def _is_result(file: Path) -> bool:
    if file.suffix not in KEPT or "checkpoints" in file.parts:
        return False
    return file.is_file() and file.stat().st_size <= LARGEST


def _fill(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


def _wait(process: subprocess.Popen, limit: float) -> str:
    """Wait for a stage, and end it at its limit: first so that it can save, then for good."""
    try:
        code = process.wait(limit - GRACE)
        state = "ok" if code == 0 else f"failed, code {code}"
    except subprocess.TimeoutExpired:
        state = "cut off at its limit"
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
    _signal(process, signal.SIGKILL)  # and whatever it has left behind
    process.wait()
    return state


def _signal(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _tail(path: Path, lines: int = 40) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _write(path: Path, content: bytes) -> None:
    _replace(path, lambda unfinished: unfinished.write_bytes(content))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    write(unfinished)
    unfinished.replace(path)


def main(words: list[str]) -> int:
    """Run what is named; return 1 if a stage did not end well.

    Args:
      words: runs and stages; after `--` options for the last stage.
    """
    if words in ([], ["list"]):
        print(stages.listing())
        return 0
    place = words.index("--") if "--" in words else len(words)
    words, more = words[:place], words[place + 1 :]
    names = [stage for word in words for stage in stages.RUNS.get(word, (word,))]
    unknown = [name for name in names if name not in stages.STAGES]
    if unknown:
        print(f"no stage {', '.join(unknown)}\n{stages.listing()}", file=sys.stderr)
        return 2
    scratch = Path(os.environ.get("GPU_SCRATCH", "/tmp/seg_jax_gpu"))
    if "environment" not in names and not (scratch / "data").exists():
        names.insert(0, "environment")
    out = Path(os.environ.get("OUT", ROOT / "runs" / "gpu" / "out"))
    tiny = os.environ.get("TINY", "") not in ("", "0")
    runner = Runner(out, ROOT / "runs" / "gpu" / "work", scratch, tiny=tiny)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.end)
    runner.run(names, words=more)
    print(f"\n{runner.summary()}")
    return int(any(outcome.state != "ok" for outcome in runner.outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
