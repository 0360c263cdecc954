"""Every `python -m seg_jax` line of every page: its verb, options and values are right."""

import dataclasses
import pathlib
import re
import shlex

import pytest
import tyro
from pages import PAGES, ROOT, commands

from seg_jax import __main__ as cli
from seg_jax import experiment
from seg_jax.cli import parsing
from seg_jax.runs import bucket, folder

# What stands for something of the reader's, and the value to parse with.
STAND_INS = {
    "NAME": "fcn8s_vgg16_voc",
    "SUITE": "quick",
    "OWNER/NAME": "me/net",
    "WEIGHTS": "vgg.pth",
}
# Registered by the page itself, or in a package of the reader's.
OWN = {"two_branches_folder": "unet_synthetic"}


class Parsed(Exception):
    """The command line is right; nothing has been run."""


def seg_jax_commands(page):
    """Yield the words after `python -m seg_jax` of every such command, options of the shell cut."""
    for line in commands(page):
        for words in re.findall(
            r"(?:python -m |docker run .*?)seg_jax(?::cuda)? ([^\"#&>|]+)", line
        ):
            # In a command in quotes, e.g. of gcloud, the quote ends it.
            yield [STAND_INS.get(word, OWN.get(word, word)) for word in shlex.split(words)]


CASES = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)[:60]}")
    for page in PAGES
    for words in seg_jax_commands(page)
]


@pytest.fixture
def parse_only(monkeypatch):
    """Stop every verb once its command line has been parsed."""

    def parse(*args, **kwargs):
        raise Parsed(tyro_cli(*args, **kwargs))

    tyro_cli = tyro.cli
    monkeypatch.setattr(parsing.tyro, "cli", parse)
    run = dataclasses.replace(experiment.get("deeplab_v3_resnet101_voc"))
    monkeypatch.setattr(folder, "read_config", lambda path: (run, None))
    monkeypatch.setattr(bucket, "fetched", pathlib.Path)  # nothing is asked for


@pytest.mark.parametrize("words", CASES)
def test_command_parses(words, parse_only):
    with pytest.raises(Parsed):
        cli.main(["--debug", *words])


def test_every_verb_is_on_a_page():
    verbs = {case.values[0][0] for case in CASES}
    assert verbs == set(cli.VERBS)


def test_wrong_commands_are_found(parse_only):
    with pytest.raises(SystemExit):
        cli.main(["train", "fcn8s_vgg16_voc", "--train.stepz", "3"])
    with pytest.raises(Exception, match="unknown name"):
        cli.main(["--debug", "train", "fcn8s_vgg16_vok"])
