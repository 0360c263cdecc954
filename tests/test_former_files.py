"""What revision 3e7ce58 wrote, before packages and fields were renamed, is still read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_jax import config, pretrained, results
from seg_jax.evaluation.run import evaluate_run
from seg_jax.inference import forward
from seg_jax.kernels import crf
from seg_jax.runs import checkpoint, folder
from seg_jax.search_space import Choice, LogUniform, Space
from seg_jax.sweep import search
from seg_jax.types import IGNORE

FORMER = Path(__file__).parent / "golden" / "revision_3e7ce58"


@pytest.fixture
def former(tmp_path, monkeypatch):
    """A copy to work in: the files name their data set by a relative path."""
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def probabilities(experiment, variables):
    image = np.asarray(Image.open("data/images/p3.png"))
    return forward.predict_probabilities(experiment.with_evaluation(crf=None), variables, image)


def test_a_run_gives_the_probabilities_that_it_gave(former):
    experiment, variables, step = checkpoint.restore_variables(Path("run"))
    assert step == 4
    assert (experiment.evaluation.mode, experiment.evaluation.canvas) == ("resize", (49, 49))
    assert experiment.evaluation.crf.bilateral_px == 50
    expected = np.load("probabilities.npz")["p3"]
    np.testing.assert_allclose(probabilities(experiment, variables), expected, atol=1e-5)


def test_a_run_can_be_evaluated_and_resumed(former):
    before = results.load(Path("run"))
    experiment, _ = folder.read_config(Path("run"))
    folder.check_resumable(Path("run"), experiment)
    after = evaluate_run(Path("run"), progress=False)
    valid = [
        np.sum(np.asarray(Image.open(f"data/masks/{name}.png")) != IGNORE) for name in ("p3", "p4")
    ]
    for record in (before, after):
        assert np.sum(record.counts.confusion) == sum(valid)
    # Other processors round otherwise: a label may change where two classes are equally likely.
    difference = np.abs(np.subtract(before.counts.confusion, after.counts.confusion)).sum()
    assert difference <= 0.002 * sum(valid)
    assert before.cutting == after.cutting == before.cutting


def test_a_record_names_its_configuration_by_todays_fields():
    record = results.load(FORMER / "run")
    assert record.config["evaluation"]["protocol"] == "squash"
    upgraded = config.upgrade(record.config)
    assert "protocol" not in upgraded["evaluation"]
    today = config.flatten(config.to_dict(config.from_dict(record.config)))
    for path, value in config.flatten(upgraded).items():  # fields that came later have defaults
        assert today[path] == value, path


def test_a_release_is_loaded(former):
    loaded = pretrained.load(Path("run/release"))
    assert loaded.labels.names == ("background", "disc", "bar")
    expected = np.load("probabilities.npz")["p3"]
    np.testing.assert_allclose(
        probabilities(loaded.experiment, loaded.variables), expected, atol=1e-5
    )


def test_a_sweep_goes_on_where_it_stopped(former):
    stored = json.loads(Path("sweep/sweep.json").read_text())
    assert stored["settings"]["space"]["optim.base_lr"]["type"] == "seg_jax.space.LogUniform"
    experiment = config.from_dict(stored["settings"]["experiment"])
    space = Space(
        {
            "optim.base_lr": LogUniform(1e-3, 0.1, points=2),
            "optim.optimizer": Choice(("adamw", "sgd")),
        }
    )
    asked = []

    def run_trial(chosen, run, report):
        asked.append(run.name)
        return 0.5

    outcome = search.sweep(
        experiment, space, Path("sweep"), trials=3, run_trial=run_trial, sampler="random",
        say=lambda line: None,
    )  # fmt: skip
    assert asked == ["trial-0003"]
    assert [trial.values for trial in outcome.trials[:2]] == [
        trial["values"] for trial in stored["trials"]
    ]


@pytest.mark.parametrize(
    "former_name, name", [("host", "lattice_numba"), ("exact_host", "exact_numba")]
)
def test_implementations_of_the_crf_keep_their_former_names(former_name, name):
    rng = np.random.default_rng(0)
    unary = rng.random((12, 16, 3), np.float32)
    image = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    both = [crf.mean_field(unary, image, implementation=each) for each in (former_name, name)]
    np.testing.assert_array_equal(*both)


def test_the_former_name_of_the_kernel_for_hopper_is_understood():
    """It runs on no CPU: the message names it by its present name."""
    unary, image = np.ones((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(NotImplementedError, match="exact_hopper"):
        crf.mean_field(unary, image, implementation="exact_pallas")
