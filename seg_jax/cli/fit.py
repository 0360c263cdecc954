"""`fit`: from a folder of images and masks to an evaluated network and a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, progress
from seg_jax.cli.parsing import PROGRAM, asks_for_help, command, named, override, with_init

NETWORK = "deeplab_v3plus"


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Train, evaluate and report on a folder of images and masks, in one command.

    Chooses crop, batch, class weights, steps, rate and evaluation from the data and this machine,
    and says each choice with the option that changes it: any --field of `train`. The same command
    resumes.

    Attributes:
      network: with a recipe for VOC or CamVid (`list`), e.g. deeplab_v3plus, pspnet, unet, fcn8s;
        or the name of an experiment.
      backbone: mobilenet_v2, resnet50, resnet101, xception65, vgg16, ...; default: MobileNetV2
        where the network has a recipe on it, else the network's own.
      workdir: the run folder; default runs/ROOT_NETWORK_BACKBONE.
      dry_run: print the choices and the same as a `train` command; write nothing.
    """

    network: str = NETWORK
    backbone: str = ""
    workdir: Path | None = None
    dry_run: bool = False


def fit(args: Sequence[str]) -> None:
    """Plan, train, evaluate, report."""
    if not args or (args[0].startswith("-") and not asks_for_help(args)):
        progress.show(
            f"usage: {PROGRAM} fit ROOT [--network NAME] [--backbone NAME] [--workdir FOLDER] "
            "[--dry-run] [--FIELD VALUE]\nROOT has images/ and masks/ (docs/your-data.md), or is "
            "a data set of another known layout."
        )
        raise SystemExit(2)
    root = Path(args[0])
    rest = with_init(args if args[0].startswith("-") else args[1:])
    from seg_jax.runs import folder
    from seg_jax.train import fit_plan, own_data

    network, backbone = named(rest, "--network") or NETWORK, named(rest, "--backbone")
    base = fit_plan.recipe(network, backbone)
    run = Path(named(rest, "--workdir") or _workdir(root, network, backbone))
    resumes = not asks_for_help(rest) and folder.has_checkpoints(run)
    begun = _begun(run, base, root) if resumes else base
    wanted, options = override(begun, rest, "fit ROOT", FitOptions)
    if resumes:
        progress.say(f"{run} goes on with the choices that it was begun with ({folder.CONFIG})")
        if options.dry_run:
            return
    else:
        given = own_data.given_fields(rest)
        _check_root(root, write=not options.dry_run)
        planned = fit_plan.plan(base, wanted, given, root)
        _say(planned, root, run)
        progress.say("\nthe same as a command:\n  " + train_command(planned.experiment, run))
        if options.dry_run:
            return
        wanted = planned.experiment
    _train(wanted, run, command("fit", *args))
    _finish(run)


def _workdir(root: Path, network: str, backbone: str) -> Path:
    name = checks.path_component(root.absolute().name or "data", "the folder's name")
    return Path("runs") / "_".join(part for part in (name, network, backbone) if part)


def _begun(run: Path, base: Any, root: Path) -> Any:
    """Return the experiment of a run that was begun, its data in the folder that is given now."""
    from seg_jax.runs import folder

    found, _ = folder.read_config(run)
    if found.name != base.name:
        raise checks.UserError(
            f"{run} holds a run of {found.name}, and this is {base.name}: give another --workdir"
        )
    data = dataclasses.replace(found.data, root=root.absolute())
    return dataclasses.replace(found, data=data)


def _check_root(root: Path, *, write: bool) -> None:
    """Write classes.txt where it is missing and the masks say what it must be."""
    from seg_jax.data.validate import class_list

    lines = class_list.missing(root)
    if not lines:
        return
    path, names = root / class_list.FILE, ", ".join(lines)
    if not write:
        raise checks.UserError(
            f"{path} is missing; without --dry-run it is written, a line for each value of the "
            f"masks: {names}"
        )
    class_list.write(path, lines)
    progress.say(f"{path} was missing and is written now, by the masks' values: {names}")


def _say(planned: Any, root: Path, run: Path) -> None:
    progress.say(f"{root} -> {run}\n")
    for choice in planned.choices:
        progress.say(f"  {choice.what:<14}{choice.value}\n{'':16}{choice.why}  [{choice.option}]")
    for warning in planned.warnings:
        progress.say(f"  warning: {warning}")


def train_command(planned: Any, run: Path) -> str:
    """Return the `train` command of a planned experiment."""
    from seg_jax import experiment
    from seg_jax.backbones import choose

    recipe = experiment.get(planned.name)
    return command("train", recipe.name, "--workdir", str(run), *choose.flags(recipe, planned))


def _train(planned: Any, run: Path, words: str) -> None:
    from seg_jax import parallel
    from seg_jax.evaluation import evaluate
    from seg_jax.train import loop

    parallel.prepare_process()
    loop.fit(planned, run, evaluate=evaluate.with_images, command=words)


def _finish(run: Path) -> None:
    """Evaluate, write the page, and say what comes next."""
    from seg_jax.cli.evaluate import evaluate

    evaluate([str(run)])
    for words in (
        ("evaluate", str(run), "--worst", "20"),
        ("export", str(run), "--format", "onnx"),
        ("weights", "release", str(run)),
    ):
        progress.say(f"      {command(*words)}", error=True)
