"""Commands whose standard streams are closed or full."""

import contextlib
import io
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seg_jax import __main__ as program
from seg_jax import progress
from seg_jax.checks import UserError


def run(shell_redirections, *words):
    """Run a command through a shell, which is what closes streams."""
    command = f'"{sys.executable}" -m seg_jax {" ".join(words)} {shell_redirections}'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=300, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(closed):
    done = run(closed, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    done = run(closed, "no_such_verb")
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_result_that_cannot_be_printed_is_an_error_of_one_line():
    done = run("> /dev/full", "--version")
    assert done.returncode == 1
    assert done.stderr == ("error: standard output cannot be written: No space left on device\n")
    assert run("2> /dev/full", "no_such_verb").returncode == 2


@pytest.fixture
def verb(monkeypatch):
    """Let `main` run a function as the verb `x`."""

    def set_verb(function):
        monkeypatch.setitem(program.VERBS, "x", lambda args: function())

    return set_verb


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(30, "Read-only file system", "/media/out"), "/media/out: Read-only file system"),
        (NotADirectoryError(20, "Not a directory", "a/b"), "a/b: Not a directory"),
        (OSError(28, "No space left on device", "out\x1b[2J"), "out\\x1b[2J: No space left on"),
        (UserError("a mistake"), "a mistake"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(verb, capsys, error, line):
    def fail():
        raise error

    verb(fail)
    assert program.main(["x"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {line}") and err.count("\n") == 1


def test_other_errors_keep_their_traceback(verb):
    def fail():
        raise OSError(5, "Input/output error", "x")

    verb(fail)
    with pytest.raises(OSError, match="Input/output"):
        program.main(["x"])


def test_in_a_pipe_a_line_comes_though_nothing_happens(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.05)
    with progress.waiting("compiling", note="(about 59 s the last time)"):
        time.sleep(0.2)
    with progress.bar(total=3, desc="steps") as bar:
        time.sleep(0.2)
        bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "compiling (about 59 s the last time)"
    assert sum(line.startswith("compiling: ") for line in lines) >= 2
    assert sum(line.startswith("steps:   0%") for line in lines) >= 3  # each a line of its own
    time.sleep(0.1)
    assert capsys.readouterr().err == ""  # both have ended


def test_in_a_pipe_lines_do_not_come_two_at_a_time(monkeypatch):
    """Neither from an update after a beat, nor from a bar and the one that it lies in."""

    class Pipe(io.StringIO):
        def write(self, text):
            drawn.append((time.monotonic(), text))
            return len(text)

    drawn: list[tuple[float, str]] = []
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(sys, "stderr", Pipe())
    with progress.bar(total=9, desc="outer") as outer:
        for _ in range(4):
            time.sleep(0.2)  # the beat draws it at 0.3 s, 0.1 s before an update
            outer.update()
        times = [when for when, _ in drawn]
        assert len(times) >= 2 and min(b - a for a, b in itertools.pairwise(times)) > 0.2
        drawn.clear()
        with progress.bar(total=1, desc="inner"):
            time.sleep(0.7)
            assert len(drawn) >= 2 and all("inner:" in text for _, text in drawn)
        drawn.clear()
        time.sleep(0.7)
        assert drawn and all("outer:" in text for _, text in drawn)  # it goes on


def test_progress_on_a_full_disk_is_dropped_and_noted(monkeypatch):
    monkeypatch.setattr(progress, "lost", lost := {})
    with open("/dev/full", "w") as full, contextlib.redirect_stderr(full):
        for _ in progress.bar(range(5)):
            pass
        progress.say("more", error=True)
    assert lost == {"standard error": "No space left on device"}
