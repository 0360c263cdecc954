"""A package of somebody else's with a model file and an experiment file."""

import sys
import textwrap

import pytest

from seg_jax import experiment

MODEL = '''
    from flax import linen as nn

    from seg_jax.nn.conv import Conv


    class TwoLayers(nn.Module):
        """Two convolutions.

        Attributes:
          num_classes: channels of the logits.
          width: channels of the first.
        """

        num_classes: int = 8
        width: float = 1.0

        @nn.compact
        def __call__(self, image, *, train):
            x = nn.relu(Conv(int(16 * self.width), name="conv1")(image))
            return {"out": Conv(self.num_classes, 1, name="score")(x)}
'''
EXPERIMENTS = '''
    from someone_elses.two_layers import TwoLayers

    from seg_jax.data.config import Augmentation, DataConfig
    from seg_jax.data.preprocessing import TORCH
    from seg_jax.experiment import Experiment, TrainConfig, register
    from seg_jax.optim import OptimConfig


    @register("two_layers_synthetic", suites=("theirs", "pair"))
    def two_layers_synthetic():
        """Two layers on drawn pictures."""
        return Experiment(
            family="Two layers",
            paper="no paper",
            model=TwoLayers(),
            data=DataConfig("synthetic_voc", Augmentation(crop=(32, 32)), TORCH),
            optim=OptimConfig(base_lr=1e-2),
            train=TrainConfig(steps=10, batch_size=4),
        )


    @register("two_layers_narrow_synthetic", suites=("pair",))
    def two_layers_narrow_synthetic():
        """The same with half the channels, at a rate of its own."""
        import dataclasses

        wide = two_layers_synthetic()
        optim = dataclasses.replace(wide.optim, base_lr=wide.optim.base_lr / 2)
        return dataclasses.replace(wide, model=TwoLayers(width=0.5), optim=optim)
'''


@pytest.fixture
def someone_elses(tmp_path, monkeypatch):
    """A package with the two files, named in SEG_JAX_EXPERIMENTS; forgotten after the test."""
    package = tmp_path / "someone_elses"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "two_layers.py").write_text(textwrap.dedent(MODEL))
    (package / "experiments.py").write_text(textwrap.dedent(EXPERIMENTS))
    experiment.discover()
    monkeypatch.setattr(experiment, "_BUILDERS", dict(experiment._BUILDERS))
    monkeypatch.setattr(experiment, "_SUITES", dict(experiment._SUITES))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SEG_JAX_EXPERIMENTS", "someone_elses")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "someone_elses"]:
        del sys.modules[name]
