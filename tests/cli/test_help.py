"""Every option and positional of every verb has a help text and a metavariable that says what."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
import tyro

from seg_jax import __main__ as command_line
from seg_jax import cli, experiment, overrides
from seg_jax.analysis import text
from seg_jax.cli import parsing
from seg_jax.cli.train import TrainOptions

pytestmark = pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")

MODULES = [
    importlib.import_module(f"seg_jax.cli.{m.name}") for m in pkgutil.iter_modules(cli.__path__)
]
KINDS = [
    kind
    for module in MODULES
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and name.endswith("Options")
    if kind.__module__ == module.__name__ and not name.startswith("_")
]
ONE_A_FAMILY = [
    "deeplab_v1_msc_largefov_vgg16_voc", "deeplab_v2_resnet101_voc", "deeplab_v3_resnet101_voc",
    "deeplab_v3plus_xception65_voc", "fcn8s_vgg16_voc", "fcn_resnet50_voc", "gcn_resnet152_voc",
    "pspnet_resnet101_voc", "segnet_basic_camvid", "unet_isbi2012",
]  # fmt: skip


def actions(kind, **options):
    parser = tyro.extras.get_parser(kind, **options)
    return [action for action in parser._actions if action.dest != "help"]


def help_of(action):
    """Return the help text without what tyro adds: "(default: 3)", "(required)"."""
    return str(action.help or "").partition("(default: ")[0].replace("(required)", "").strip()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_options_of_verbs(kind):
    for action in actions(parsing.with_metavars(kind)):
        name = "/".join(action.option_strings) or action.dest
        assert help_of(action), f"{kind.__name__}: {name} has no help text"
        words = str(action.metavar).replace("{None}", "").replace("|", " ").split()
        assert not {"STR", "PATH"} & set(words), f"{kind.__name__}: {name} {action.metavar}"


def test_every_verb_has_options_that_are_walked():
    assert len(KINDS) >= 19
    documented = {kind.__name__.removesuffix("Options").lower() for kind in KINDS}
    assert set(command_line.VERBS) - documented == {"crf", "weights", "data"}  # groups of verbs


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_fields_of_experiments(name):
    check_fields(name)


@pytest.mark.slow
def test_fields_of_all_experiments():
    for name in experiment.names():
        check_fields(name)


def check_fields(name):
    """Every field has a help text; every field that `show` prints is an option or marked."""
    found = experiment.get(name)
    both, _ = parsing.options_and_fields(found, TrainOptions)
    options = {}
    for action in actions(type(both), default=both, config=parsing.TYRO_CONFIG):
        for option in action.option_strings:
            options[option.removeprefix("--").replace("-", "_")] = action
        assert help_of(action), f"{name}: {action.option_strings} has no help text"
    for line in text.configuration(found):
        path = line.partition(" =")[0]
        if line.endswith(" (fixed)"):
            assert path not in options, line
        else:  # a field, or a group of fields
            assert path in options or any(o.startswith(f"{path}.") for o in options), line
    assert not {f"{field}" for field in overrides.IDENTITY} & set(options)


def test_help_lists_names_spaces_and_suites(capsys):
    for args, words in {
        ("sweep", "--help"): ["experiments.sweeps:poly_lr", "optim.schedule.power", "unet_voc"],
        ("reproduce", "--help"): ["SUITE", "quick", "published"],
        ("train", "--help"): ["unet_voc", "train NAME --help"],
    }.items():
        with pytest.raises(SystemExit) as exit:
            command_line.main(args)
        out = capsys.readouterr().out
        assert exit.value.code == 0
        assert all(word in out for word in words), out
        assert max(map(len, out.splitlines())) <= 100


def test_unknown_names_suggest_at_most_five(capsys):
    assert command_line.main(["show", "zzzzzz"]) == 2
    err = capsys.readouterr().err
    assert sum(name in err.replace(",", " ").split() for name in experiment.names()) == 5
