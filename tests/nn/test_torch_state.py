"""Reading a torch state dict: the layout of kernels, every leaf covered, every tensor used."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from scipy import signal

from seg_jax.checks import UserError
from seg_jax.nn.blocks import ConvNorm
from seg_jax.nn.conv import Conv
from seg_jax.nn.torch_state import import_state


class Net(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = ConvNorm(5, (3, 1), name="first")(image, train=train)
        return Conv(2, 1, name="last")(x)


LAYERS = {"first/conv": "0", "first/bn": "1", "last": "head"}


@pytest.fixture
def state(rng):
    shapes = {
        "0.weight": (5, 3, 3, 1),
        "1.weight": (5,),
        "1.bias": (5,),
        "1.running_mean": (5,),
        "1.running_var": (5,),
        "head.weight": (2, 5),
        "head.bias": (2,),
    }
    tensors = {name: np.float32(rng.uniform(0.5, 1, shape)) for name, shape in shapes.items()}
    return {**tensors, "1.num_batches_tracked": np.int64(7)}


def test_computes_what_torch_computes(state, rng):
    image = np.float32(rng.normal(size=(6, 7, 3)))
    variables = import_state(Net(), state, LAYERS.get)
    actual = jax.jit(lambda v, x: Net().apply(v, x, train=False))(variables, image[None])[0]
    # torch's own order: channels first, filters [out in height width]
    padded = np.pad(image, ((1, 1), (0, 0), (0, 0))).transpose(2, 0, 1)
    maps = np.stack(
        [signal.correlate(padded, filter_, mode="valid")[0] for filter_ in state["0.weight"]]
    )
    mean, var, scale, bias = (
        state[f"1.{name}"][:, None, None]
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    maps = np.maximum((maps - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)
    expected = np.einsum("oc,chw->hwo", state["head.weight"], maps) + state["head.bias"]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_lists_what_does_not_fit(state):
    del state["1.running_mean"]
    state["fc.weight"] = state["head.weight"]
    state["head.bias"] = np.zeros(3, np.float32)
    with pytest.raises(UserError) as caught:
        import_state(Net(), state, LAYERS.get)
    assert str(caught.value) == (
        "these weights do not fit this Net; "
        "1 missing in the weights: first/bn/mean (from 1.running_mean); "
        "1 unknown to the network: fc.weight; "
        "1 of another shape: head.bias is (3,), last needs (2,)"
    )


def test_tensors_may_be_left_over_by_name(state):
    state["fc.weight"] = state["head.weight"]
    import_state(Net(), state, LAYERS.get, ignore=r"fc\..*")


def test_layer_that_torch_has_not(state):
    with pytest.raises(
        UserError,
        match="2 missing .* last/bias .the other network has no .*; 2 unknown .* head.bias, head.w",
    ):
        import_state(Net(), state, {"first/conv": "0", "first/bn": "1"}.get)


def test_long_lists_are_cut(state):
    state |= {f"layer{i}.weight": state["head.weight"] for i in range(100)}
    with pytest.raises(UserError, match="100 unknown") as caught:
        import_state(Net(), state, LAYERS.get)
    assert str(caught.value).count("layer") == 20
