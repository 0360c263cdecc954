"""The command line: finds the verb, and turns a user's mistake into one line and exit code 2."""

import errno
import os
import signal
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` puts the current folder first, where a stranger's tyro.py would be run.
    _here = sys.path.pop(0)
    if os.path.samefile(_here, os.path.dirname(os.path.dirname(__file__))):
        sys.path.append(_here)  # a checkout that is not installed: worker processes need it

from collections.abc import Sequence

from seg_jax import __version__, checks, progress
from seg_jax.cli.parsing import Verb, dispatch

USAGE = """\
usage: python -m seg_jax VERB ...

  list                        every experiment: parameters, published figure, state of evidence
  show NAME                   the resolved configuration, and the network layer by layer
  fit ROOT                    own images and masks to a trained network and a report, in one go
  train NAME [--field VALUE]  train into a run folder; the same command resumes a run;
                              --init WEIGHTS starts from published weights, a release or a run
  evaluate RUN                score a run on its validation split, by any --protocol and --crf
  predict RUN IMAGE...        label maps and overlays of files, folders, 'patterns', - (a list)
  report RUN...               a page of any runs: curves, classes, confusions, errors, worst images
  submit RUN                  an archive for the VOC test server; --check FILE validates anyone's
  table [RUN...]              the table, from records
  reproduce SUITE             train, evaluate and tabulate every experiment of a suite
  sweep NAME --space M:S      search hyperparameters
  crf search RUN              search the dense CRF's constants, as DeepLab's authors did
  export RUN --format F       one file for other programs: stablehlo, onnx, tflite
  weights list | import | verify   published weights: what there is, taking a file, checking it
  weights release RUN         a folder for others: weights, configuration, record, card
  weights push | pull         to and from the Hugging Face hub
  compile NAME --for TARGET   memory, fit and cost on a TPU or GPU that is not here, by its compiler
  launch NAME --on ENGINE     start a training or another verb on a cluster: slurm, sky, gke
  jobs                        the launched runs, and what their engines say of them
  logs RUN [--follow]         the log of a launched run
  cancel RUN                  end a launched run; what it saved stays
  data check ROOT             read a data set whole and report every problem in it
  data prepare voc2012        PASCAL VOC 2012 and SBD from the authors' archives, with all lists
  data VERB ...               also stats, view, pack and synthesize: see `data --help`
  env                         versions, devices, places: what a bug report needs

`python -m seg_jax VERB --help` describes each verb's options. --debug, with any verb, shows the
traceback of a user's mistake. Exit codes: 0 done, 2 the user's mistake, 75 a training was stopped
by a signal and saved (the same command goes on), 128 + signal stopped before anything was saved,
1 anything else.
"""

VERBS: dict[str, Verb] = {
    "list": "seg_jax.cli.show:list_experiments",
    "show": "seg_jax.cli.show:show",
    "fit": "seg_jax.cli.fit:fit",
    "train": "seg_jax.cli.train:train",
    "evaluate": "seg_jax.cli.evaluate:evaluate",
    "predict": "seg_jax.cli.predict:predict",
    "report": "seg_jax.cli.report:report",
    "submit": "seg_jax.cli.submit:submit",
    "table": "seg_jax.cli.show:table",
    "reproduce": "seg_jax.cli.train:reproduce",
    "sweep": "seg_jax.cli.train:sweep",
    "crf": "seg_jax.cli.crf:main",
    "weights": "seg_jax.cli.weights:main",
    "export": "seg_jax.cli.export:export",
    "compile": "seg_jax.cli.compile:compile_programs",
    "launch": "seg_jax.cli.launch:launch",
    "jobs": "seg_jax.cli.launch:jobs",
    "logs": "seg_jax.cli.launch:logs",
    "cancel": "seg_jax.cli.launch:cancel",
    "data": "seg_jax.cli.data:main",
    "env": "seg_jax.cli.env:env",
}


# What a place says that cannot be read or written: the user chooses another one, or makes room.
_PLACES = {
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT,
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    _open_standard_streams()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's chatter; set it to 0 to see it
    try:
        code = _run(args)
    except BrokenPipeError:  # `... | head` has seen enough
        _drop_output()
        return 0
    except (checks.UserError, OSError, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, SystemExit):
            # tyro ends so, of which "" is no message; `train.termination.Stopped` carries one.
            if not getattr(error, "message", ""):
                raise
            progress.say(f"\n{checks.printable(error)}", error=True)
            code = int(error.code or 0)
        elif debug:
            raise
        elif isinstance(error, KeyboardInterrupt):
            progress.say("\ninterrupted", error=True)
            code = 128 + signal.SIGINT
        elif isinstance(error, OSError):
            if error.errno not in _PLACES:
                raise
            if error.filename is None:  # not a file that was opened: what was printed
                return _not_printed(error, 1)
            name = os.fsdecode(error.filename)
            progress.say(f"error: {checks.printable(f'{name}: {error.strerror}')}", error=True)
            code = 2
        else:
            progress.say(f"error: {checks.printable(error)}", error=True)
            code = 2
    return _flushed(code)


def _run(args: Sequence[str]) -> int:
    if args[:1] == ["--version"]:
        progress.show(__version__)
        return 0
    return dispatch(VERBS, USAGE, args, group="verb")


def _flushed(code: int) -> int:
    """Write out what was printed. A result that nobody can read is an error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except (OSError, ValueError) as error:
        return _not_printed(error, code or 1)
    return code


def _not_printed(error: Exception, code: int) -> int:
    _drop_output()
    why = getattr(error, "strerror", None) or error
    progress.say(f"error: standard output cannot be written: {why}", error=True)
    return code


def _drop_output() -> None:
    progress.silence(sys.stdout, "standard output", OSError("closed"))


def _open_standard_streams() -> None:
    """Open the standard streams that are closed, on nothing: otherwise the next file that is opened
    would take the place of one, and receive what is printed.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def _mention_other_experiments() -> None:
    """Say which experiments are meant where the current folder has a folder of that name."""
    from seg_jax.experiments import FOLDER

    if os.path.isdir("experiments") and not os.path.samefile("experiments", FOLDER):
        progress.say(f"note: experiments are those of {FOLDER}, not ./experiments", error=True)


if __name__ == "__main__":
    _mention_other_experiments()
    sys.exit(main())
