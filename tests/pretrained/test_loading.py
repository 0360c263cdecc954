"""What `load` returns for a run, and what it says of anything else."""

import dataclasses

import numpy as np
import pytest
from small_task import SmallNet, small_experiment, small_variables

from seg_jax import pretrained, train_state
from seg_jax.checks import UserError
from seg_jax.inference import forward
from seg_jax.models.pspnet import PSPNet
from seg_jax.optim import make_optimizer
from seg_jax.runs import checkpoint
from seg_jax.runs import folder as run_folder


@pytest.fixture
def run(tmp_path):
    experiment = small_experiment()
    variables = small_variables(experiment.model)
    optimizer = make_optimizer(experiment.optim, variables["params"], steps=1)
    state = train_state.init_state({"batch_stats": {}, **variables}, optimizer)
    run_folder.write_config(tmp_path, experiment)
    checkpoint.save(tmp_path, state, iterator={}, metadata={}, keep=1)
    return tmp_path


def test_a_run_is_loaded_with_its_preprocessing(run, rng):
    """Softmax of what the model says of the preprocessed image is what `inference` predicts."""
    loaded = pretrained.load(run)
    image = rng.integers(0, 256, (32, 48, 3)).astype(np.uint8)  # the bucket of 16 pads nothing
    x = loaded.preprocessing(image)
    assert x.shape == (32, 48, 3) and x.dtype == np.float32
    logits = np.asarray(loaded.model.apply(loaded.variables, x[None], train=False)["out"])[0]
    expected = forward.predict_probabilities(small_experiment(), small_variables(SmallNet()), image)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(-1, keepdims=True), expected, atol=1e-6)


def test_a_image_of_several_windows_is_refused():
    experiment = small_experiment(SmallNet(padding="VALID"), mode="tile", canvas=(12, 12))
    preprocessing = pretrained.ImagePreprocessing(experiment)
    assert preprocessing(np.zeros((10, 10, 3), np.uint8)).shape == (12, 12, 3)
    with pytest.raises(UserError, match="11x10 makes 2 windows"):
        preprocessing(np.zeros((11, 10, 3), np.uint8))


def test_a_sliding_network_sees_the_whole_image_on_sides_that_it_takes():
    """PSPNet's are 8 k + 1; the canvas grows in steps of the bucket, 16 px here."""
    experiment = dataclasses.replace(
        small_experiment(mode="sliding", canvas=(17, 17), long_side=33), model=PSPNet()
    )
    x = pretrained.ImagePreprocessing(experiment)(np.zeros((16, 20, 3), np.uint8))
    assert x.shape == (17, 33, 3)


def test_what_holds_no_weights(tmp_path):
    with pytest.raises(UserError, match="nothing.here: no such file"):
        pretrained.load(tmp_path / "nothing.here")
    with pytest.raises(UserError, match="holds no weights that can be read"):
        pretrained.load(tmp_path)
