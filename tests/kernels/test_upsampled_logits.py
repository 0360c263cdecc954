"""Strips of upsampled logits against upsampling first: losses, gradients, labels and counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax import metrics
from seg_jax.kernels import row_strips, upsampled_logits
from seg_jax.losses import pixels
from seg_jax.nn import resize
from seg_jax.nn.lowering import for_platform
from seg_jax.types import IGNORE

K = 5
CORNERS, CENTRES = resize.align_corners_matrix, resize.half_pixel_matrix
MATRICES = {
    "half pixels": (CENTRES(5, 31), CENTRES(4, 18)),
    "fewer rows than scores": (CENTRES(9, 4), CENTRES(4, 18)),
    "FCN's kernel, cropped": (resize._upsampling_matrix(6, 8, 4)[3:25], CORNERS(3, 17)),
    "first pixels repeated": (CORNERS(4, 25)[[0, 0, *range(25)]], CORNERS(3, 17)[[0, *range(17)]]),
    "mirrored, one row of scores": (CORNERS(1, 6), CORNERS(3, 17)[::-1]),
}


@pytest.fixture
def make(rng, monkeypatch):
    """Return scores, matrices and labels of a name; strips are small, so that there are several."""
    monkeypatch.setattr(row_strips, "STRIP_BYTES", dict.fromkeys(("cpu", "gpu", "tpu"), 2**14))

    def case(name):
        vertical, horizontal = MATRICES[name]
        scores = rng.normal(scale=4.0, size=(2, vertical.shape[1], horizontal.shape[1], K))
        label = rng.integers(0, K, (2, len(vertical), len(horizontal))).astype(np.uint8)
        label[rng.random(label.shape) < 0.2] = IGNORE
        label[1, :2] = IGNORE
        return jnp.asarray(scores, jnp.float32), vertical, horizontal, label

    return case


def composed(scores, vertical, horizontal, label, **options):
    """Upsample everything, in NumPy's order of axes, then the loss of `losses.pixels`."""
    down, right = (jnp.asarray(matrix, jnp.float32) for matrix in (vertical, horizontal))
    logits = jnp.einsum("Hh,nhwk,Ww->nHWk", down, scores, right, precision="highest")
    loss, valid = pixels.cross_entropy(logits, label, **options)
    correct = (jnp.argmax(logits, -1).astype(jnp.int32) == label.astype(np.int32)) & valid
    return tuple(jnp.sum(x, (1, 2)) for x in (loss, valid, correct))


@pytest.mark.parametrize(
    ("name", "weighted"),
    [("half pixels", True), ("FCN's kernel, cropped", False)],
)
def test_value_and_gradient_equal_those_of_the_whole_logits(make, rng, name, weighted):
    scores, vertical, horizontal, label = make(name)
    given = {
        "class_weights": tuple(rng.uniform(0.1, 3.0, K).astype(np.float32)),
        "pixel_weights": jnp.asarray(rng.uniform(0, 4, label.shape), jnp.float32),
        "label_smoothing": 0.1,
        "focal_gamma": 2.0,
    }
    given = given if weighted else {}

    def of(function, scores):
        loss, *counts = function(scores, vertical, horizontal, label, **given)
        # Each image has its own factor, as where every image has its own mean.
        return jnp.sum(loss / jnp.asarray([3.0, 700.0])), (loss, *counts)

    (_, found), slope = jax.jit(
        jax.value_and_grad(lambda s: of(upsampled_logits.cross_entropy, s), has_aux=True)
    )(scores)
    (_, expected), wanted = jax.jit(jax.value_and_grad(lambda s: of(composed, s), has_aux=True))(
        scores
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_array_equal(found[1:], expected[1:])
    np.testing.assert_allclose(slope, wanted, atol=1e-6 * np.abs(wanted).max())
    if weighted:  # without a gradient the value is that of another program
        value = jax.jit(lambda s: of(upsampled_logits.cross_entropy, s)[1])(scores)
        np.testing.assert_allclose(value[0], found[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "platform"),
    [
        ("half pixels", "tpu"),
        ("fewer rows than scores", "cpu"),
        ("first pixels repeated", "cpu"),
        ("mirrored, one row of scores", "cpu"),
    ],
)
def test_labels_and_counts_are_the_argmax_of_the_whole_logits(make, name, platform):
    scores, vertical, horizontal, label = make(name)
    label[0, 0, :2] = K, 254  # no classes: counted nowhere
    logits = np.einsum("Hh,nhwk,Ww->nHWk", vertical, np.asarray(scores, np.float64), horizontal)
    with for_platform(platform):
        found, counts = jax.jit(
            lambda s, y: upsampled_logits.confusion(s, vertical, horizontal, y)
        )(scores, label)
    np.testing.assert_array_equal(found, logits.argmax(-1))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(counts, metrics.confusion_on_host(label, logits.argmax(-1), K))


def test_ties_are_the_first_class_nan_the_highest_and_a_wrong_label_nan():
    vertical = horizontal = CORNERS(3, 17)
    label = np.ones((2, 17, 17), np.uint8)
    label[0, 0, 0] = K
    label[1] = IGNORE
    scores = jnp.zeros((2, 3, 3, K))
    loss, valid, correct = jax.jit(
        lambda s: upsampled_logits.cross_entropy(s, vertical, horizontal, label)
    )(scores)
    assert correct[0] == 0  # class 0 is chosen, not every class that ties with it
    assert np.isnan(loss[0]) and loss[1] == 0 and valid[0] == 17 * 17 and valid[1] == 0
    scores = scores.at[0, 2, 2, 3].set(jnp.nan)
    found = jax.jit(lambda s: upsampled_logits.labels(s, vertical, horizontal))(scores)
    assert found[0, 0, 0] == 0 and found[0, 16, 16] == 3


def test_mistakes_are_named():
    vertical = horizontal = CORNERS(3, 17)
    scores, label = jnp.zeros((1, 3, 3, K)), np.zeros((1, 17, 17), np.uint8)

    def loss(scores=scores, vertical=vertical, label=label, **options):
        return upsampled_logits.cross_entropy(scores, vertical, horizontal, label, **options)

    with pytest.raises(ValueError, match="label .*16.* is not"):
        loss(label=label[:, 1:])
    with pytest.raises(ValueError, match="must be float32"):
        loss(scores=scores.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="do not fit scores"):
        loss(scores=jnp.zeros((1, 4, 3, K)))
    with pytest.raises(ValueError, match="other entries than two neighbours"):
        loss(vertical=np.full((17, 3), 1 / 3))
    with pytest.raises(ValueError, match="2 entries, the scores 5 classes"):
        loss(class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="have no gradient here"):
        jax.grad(lambda w: loss(class_weights=w).loss.sum())(jnp.ones(K))
