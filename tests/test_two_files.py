"""Adding an architecture touches two files, its model and its experiments: here elsewhere."""

import jax
import numpy as np

from seg_jax import config, experiment, train_state


def test_two_files_make_an_experiment(someone_elses):
    assert "two_layers_synthetic" in experiment.names()
    assert "fcn8s_vgg16_voc" in experiment.names()
    assert experiment.suite("theirs") == ("two_layers_synthetic",)
    chosen = experiment.get("two_layers_synthetic")
    assert config.from_dict(config.to_dict(chosen)) == chosen

    image = np.zeros((1, 32, 32, 3), np.float32)
    variables = train_state.init_variables(chosen.model, input_shape=image.shape, seed=0)
    out = jax.jit(lambda v: chosen.model.apply(v, image, train=False))(variables)["out"]
    assert out.shape == (1, 32, 32, 8)


def test_without_the_variable_it_is_unknown():
    assert "two_layers_synthetic" not in experiment.names()
