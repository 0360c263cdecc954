"""What the verbs share: dispatch, options as frozen dataclasses, overrides of experiments."""

import dataclasses
import importlib
import json
import shlex
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import tyro

from seg_jax import checks, files, overrides, progress

PROGRAM = "python -m seg_jax"
TYRO_CONFIG = (tyro.conf.AvoidSubcommands,)  # of experiments: the model's classes are fixed
# A verb takes the words after it and returns the exit code (None: 0). A string "module:function"
# is imported only when the verb is called.
Verb = Callable[[Sequence[str]], int | None] | str
Options = TypeVar("Options")
# Each takes a name and changes more than a field, whose option would take no value.
BACKBONE, NORM = "--model.backbone", "--model.norm"


def dispatch(verbs: Mapping[str, Verb], usage: str, args: Sequence[str], *, group: str) -> int:
    """Run the verb that `args` begins with; return its exit code.

    Args:
      verbs: by name.
      usage: printed for no verb (exit code 2) and for --help.
      args: the command line after the group's own name.
      group: of the verbs, for the error message: "verb", "data", ...

    Raises:
      UserError: there is no such verb; names the closest ones.
    """
    if not args or args[0] in ("-h", "--help"):
        progress.show(usage, end="")
        return 0 if args else 2
    if args[0] not in verbs:
        raise checks.UserError(f"{group}: {checks.unknown(args[0], verbs)}")
    verb = verbs[args[0]]
    if isinstance(verb, str):
        module, _, name = verb.partition(":")
        verb = getattr(importlib.import_module(module), name)
    return verb(args[1:]) or 0


def parse(
    kind: type[Options], args: Sequence[str], verb: str, *, notes: Callable[[], str] | None = None
) -> Options:
    """Return a verb's options.

    Args:
      kind: frozen dataclass of the options; its docstring is the help text.
      args: the command line after the verb.
      verb: for the help text.
      notes: returns what --help prints below the description; called only for that.
    """
    description = None
    if notes and asks_for_help(args):
        summary, _, _ = (kind.__doc__ or "").partition("Attributes:")
        description = f"{summary.strip()}\n\n{notes()}"
    parsed = tyro.cli(
        with_metavars(kind), args=args, prog=f"{PROGRAM} {verb}", description=description
    )
    _refuse_buckets(parsed, allowed=getattr(kind, "BUCKETS", ()))
    return cast(Options, parsed)


def _refuse_buckets(options: Any, *, allowed: Sequence[str], prefix: str = "") -> None:
    """Raise UserError if an option or field names a bucket where only a folder or file will do.

    Args:
      options: dataclass of values, which may be such dataclasses.
      allowed: names of options that may.
      prefix: of the fields' names.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(each):
                _refuse_buckets(each, allowed=(), prefix=f"{prefix}{field.name}.")
            elif isinstance(each, str | Path) and field.name not in allowed:
                if url := files.bucket_url(each):
                    raise checks.UserError(
                        f"--{prefix}{field.name} {url}: a bucket can hold a run that one process "
                        "trains (train --workdir), and be evaluated and predicted with; for "
                        "anything else mount it (gcsfuse, mountpoint-s3, SkyPilot's `mounts`)"
                    )


def with_init(args: Sequence[str]) -> list[str]:
    """Return the arguments with --init and --init-... written out: --train.init and so on."""
    return ["--train." + arg[2:] if arg.startswith("--init") else arg for arg in args]


def asks_for_help(args: Sequence[str]) -> bool:
    """Return whether the command line has -h or --help."""
    return bool({"-h", "--help"} & set(args))


def with_metavars(kind: type[Options]) -> type[Options]:
    """Return the dataclass with metavariables: a text or path `run` is RUN, a tuple `runs` RUN ...

    tyro's own would be STR or {None}|PATH.
    """
    fields = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(cast(Any, kind)):
        hint, name = hints[field.name], field.name.upper().replace("_", "-")
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if bare in (tuple[str, ...], tuple[Path, ...]):
            name = f"[{name.removesuffix('S')} ...]"
        elif bare not in (str, Path, Path | None):
            name = None
        if name is not None:
            hint = Annotated[hint, tyro.conf.arg(metavar=name)]
        fields.append((field.name, hint, dataclasses.field(default=field.default)))
    named = dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True)
    named.__doc__ = kind.__doc__
    return named


def parse_experiment(
    args: Sequence[str], verb: str, kind: type[Options], *, notes: Callable[[], str] | None = None
) -> tuple[Any, Options]:
    """Parse `NAME --dotted.field value ...` and the verb's own options.

    Args:
      args: the command line after the verb.
      verb: for the help text.
      kind: frozen dataclass of the options, all with defaults.
      notes: returns what is printed below the names of the experiments if none is given.

    Returns:
      The experiment with the overrides applied, and the options.
    """
    from seg_jax import experiment

    name = next((arg for arg in args if not arg.startswith("-")), None)
    if name is None or args[0] != name:
        progress.show(f"usage: {PROGRAM} {verb} NAME [--help] [--field VALUE ...]")
        progress.show(
            textwrap.fill("NAME: " + " ".join(experiment.names()), 100, break_on_hyphens=False)
        )
        if notes:
            progress.show(notes())
        progress.show(f"`{PROGRAM} {verb} NAME --help` describes every option and field.")
        raise SystemExit(0 if asks_for_help(args) else 2)
    chosen, rest = _with_named_parts(experiment.get(name), args[1:])
    return override(chosen, rest, f"{verb} {name}", kind)


def _with_named_parts(default: Any, args: Sequence[str]) -> tuple[Any, list[str]]:
    """Take `--model.backbone NAME` and `--model.norm KIND` out of the arguments; return the
    experiment with them, and the rest.

    The other options set fields, those of the chosen backbone among them.
    """
    words, rest, named = iter(args), [], {}
    for word in words:
        option, equals, name = word.partition("=")
        if option in (BACKBONE, NORM):
            named[option] = name if equals else next(words, "")
        else:
            rest.append(word)
    # A backbone's norms are of the kind that is asked for, wherever the options stand.
    for option, change in ((BACKBONE, "with_backbone"), (NORM, "with_norm")):
        if option in named:
            try:
                default = getattr(default, change)(named[option])
            except ValueError as error:
                raise checks.UserError(f"{option} {named[option]}: {error}") from error
    return default, rest


def on_own_data(
    found: Any, args: Sequence[str], *, needed: bool = True, error: bool = False
) -> Any:
    """Return the experiment with what follows from another data set than its recipe's, and say it.

    Args:
      found: the experiment, overrides applied.
      args: the command line, which says what the user has set.
      needed: data that are not here are a mistake; else the recipe's number of classes stays.
      error: say it on standard error.
    """
    from seg_jax import experiment

    recipe = experiment.get(found.name)
    if found.data.dataset == recipe.data.dataset:
        return found
    from seg_jax.train import own_data

    try:
        found, changes = own_data.adapt(recipe, found, own_data.given_fields(args))
    except checks.UserError as missing:
        if needed:
            raise
        changes = [f"the number of classes is the recipe's: {missing}"]
    for change in changes:
        progress.say(f"{found.name}: {change}", error=error)
    return found


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
    both, names = options_and_fields(default, kind, fields)
    parsed = tyro.cli(
        type(both), args=args, default=both, prog=f"{PROGRAM} {command}", config=TYRO_CONFIG
    )
    _refuse_buckets(parsed, allowed=getattr(kind, "BUCKETS", ()))
    own = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(cast(Any, kind))}
    changes = {name: getattr(parsed, name) for name in names}
    return dataclasses.replace(default, **changes), kind(**own)


def options_and_fields(
    default: Any, kind: type[Options], fields: Sequence[str] | None = None
) -> tuple[Any, list[str]]:
    """Return one dataclass value of a verb's options and an experiment's fields, and the latter.

    Arguments as in `override`.
    """
    names = fields or [
        f.name for f in dataclasses.fields(default) if f.name not in overrides.IDENTITY
    ]
    body = [field for field in dataclasses.fields(default) if field.name in names]
    both = dataclasses.make_dataclass(
        "Options",
        [(field.name, field.type, dataclasses.field(default=None)) for field in body],
        bases=(with_metavars(kind),),
        frozen=True,
    )
    both.__doc__ = f"{default.family}: {default.paper}\n\n{_attributes(kind)}"
    value = both(**{field.name: getattr(default, field.name) for field in body})
    return value, [field.name for field in body]


def _attributes(kind: type) -> str:
    """Return the part of a docstring that explains the fields."""
    _, mark, rest = (kind.__doc__ or "").partition("Attributes:")
    return mark + rest


def named(args: Sequence[str], option: str) -> str:
    """Return the value of an option that sets the defaults of others; empty if it is not given."""
    words = [word for arg in args for word in arg.split("=", 1)]
    found = [after for word, after in zip(words, words[1:], strict=False) if word == option]
    return found[-1] if found else ""


def print_json(value: Any) -> None:
    """Print JSON for machines."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    kept = (each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)
    progress.show("".join(kept))


def command(*words: str) -> str:
    """Return a command as a user would type it again: records carry it."""
    return shlex.join(["python", "-m", "seg_jax", *words])
