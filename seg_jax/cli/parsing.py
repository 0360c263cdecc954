"""What the verbs share: dispatch, options as frozen dataclasses, overrides of experiments."""

import dataclasses
import importlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from seg_jax import checks, overrides

PROGRAM = "python -m seg_jax"
# A verb takes the words after it and returns the exit code (None: 0). A string names one of a
# module that is imported when it is asked for: "seg_jax.cli.train:train".
Verb = Callable[[Sequence[str]], int | None] | str
Options = TypeVar("Options")


def dispatch(verbs: Mapping[str, Verb], usage: str, args: Sequence[str], *, group: str) -> int:
    """Run the verb that `args` begins with; return its exit code.

    Args:
      verbs: by name.
      usage: printed for no verb (exit code 2) and for --help.
      args: the command line after the group's own name.
      group: what the verbs are of, for the error: "verb", "data", ...

    Raises:
      UserError: there is no such verb; the closest ones are named.
    """
    if not args or args[0] in ("-h", "--help"):
        print(usage, end="")
        return 0 if args else 2
    if args[0] not in verbs:
        raise checks.UserError(f"{group}: {checks.unknown(args[0], verbs)}")
    verb = verbs[args[0]]
    if isinstance(verb, str):
        module, _, name = verb.partition(":")
        verb = getattr(importlib.import_module(module), name)
    return verb(args[1:]) or 0


def parse(kind: type[Options], args: Sequence[str], verb: str) -> Options:
    """Return a verb's options, a frozen dataclass whose docstring is the help text."""
    return tyro.cli(kind, args=args, prog=f"{PROGRAM} {verb}")


def parse_experiment(args: Sequence[str], verb: str, kind: type[Options]) -> tuple[Any, Options]:
    """Parse `NAME --dotted.field value ...` and the verb's own options.

    Args:
      args: the command line after the verb.
      verb: for the help text.
      kind: frozen dataclass of the options, all with defaults.

    Returns:
      The experiment with the overrides applied, and the options.
    """
    from seg_jax import experiment

    name = next((arg for arg in args if not arg.startswith("-")), None)
    if name is None or args[0] != name:
        print(f"usage: {PROGRAM} {verb} NAME [--help] [--field VALUE ...]")
        print("names: " + " ".join(experiment.names()))
        raise SystemExit(0 if {"-h", "--help"} & set(args) else 2)
    return override(experiment.get(name), args[1:], f"{verb} {name}", kind)


def override(
    default: Any,
    args: Sequence[str],
    command: str,
    kind: type[Options],
    *,
    fields: Sequence[str] | None = None,
) -> tuple[Any, Options]:
    """Parse overrides of an experiment's fields, and the verb's own options.

    Args:
      default: the experiment.
      args: the command line after the experiment's or run's name.
      command: for the help text.
      kind: frozen dataclass of the options, all with defaults.
      fields: of the experiment that can be set; None: all but its identity.

    Returns:
      The changed experiment, and the options.
    """
    names = fields or [
        f.name for f in dataclasses.fields(default) if f.name not in overrides.IDENTITY
    ]
    body = [field for field in dataclasses.fields(default) if field.name in names]
    both = dataclasses.make_dataclass(
        "Options",
        [(field.name, field.type, dataclasses.field(default=None)) for field in body],
        bases=(kind,),
        frozen=True,
    )
    both.__doc__ = f"{default.family}: {default.paper}\n\n{_attributes(kind)}"
    parsed = tyro.cli(
        both,
        args=args,
        default=both(**{field.name: getattr(default, field.name) for field in body}),
        prog=f"{PROGRAM} {command}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    own = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(kind)}
    changes = {field.name: getattr(parsed, field.name) for field in body}
    return dataclasses.replace(default, **changes), kind(**own)


def _attributes(kind: type) -> str:
    """Return the part of a docstring that explains the fields."""
    _, mark, rest = (kind.__doc__ or "").partition("Attributes:")
    return mark + rest


def named(args: Sequence[str], option: str) -> str:
    """Return an option's value, empty if it is not given: its fields are overridden afterwards."""
    words = [word for arg in args for word in arg.split("=", 1)]
    found = [after for word, after in zip(words, words[1:], strict=False) if word == option]
    return found[-1] if found else ""


def print_json(value: Any) -> None:
    """Print JSON for machines."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def command(*words: str) -> str:
    """Return a command as a user would type it again: records carry it."""
    return shlex.join(["python", "-m", "seg_jax", *words])
