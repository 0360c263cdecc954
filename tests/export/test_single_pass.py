"""The exported function does on the device what predictions do on the host, padding and all."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from small_task import SmallNet, small_experiment, small_variables

from seg_jax import checks
from seg_jax import experiment as experiments
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.export import convert, single_pass
from seg_jax.inference import forward, windows


class OnlyOdd(SmallNet):
    """Takes sides of 2 k + 1 only."""

    def legal_sizes(self, side):
        return (side,) if side % 2 else (side - 1, side + 1)


def images(rng, size, count=2):
    return rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("evaluation", "size", "resize_to", "inside"),
    [
        ({"canvas": (20, 30)}, (17, 30), None, ("whole", (20, 30))),
        ({"canvas": (20, 30)}, None, None, ("whole", (20, 30))),
        ({"canvas": (20, 30)}, (21, 30), None, ("whole", (32, 32))),  # buckets of 16
        ({"bucket": 16}, (17, 30), None, ("whole", (32, 32))),
        ({"canvas": (20, 30), "mode": "sliding"}, (19, 29), None, ("whole", (20, 30))),
        ({"canvas": (20, 30), "scales": (0.5, 1.0), "flip": True}, None, None, ("whole", (20, 30))),
        ({"canvas": (20, 30), "mode": "resize"}, (33, 24), None, ("resize", (20, 30))),
        ({"canvas": (20, 30)}, (33, 40), (15, 16), ("resize", (15, 16))),
        ({"canvas": (20, 30), "mode": "tile"}, (18, 28), None, ("tile", (20, 30))),
        ({"canvas": (20, 30), "mode": "tile"}, None, None, ("tile", (20, 30))),
    ],
)
def test_what_is_exported_is_what_predictions_do(rng, evaluation, size, resize_to, inside):
    tile = evaluation.get("mode") == "tile"
    found = small_experiment(SmallNet(padding="VALID" if tile else "SAME"), **evaluation)
    variables = small_variables(found.model)
    planned, size = single_pass.plan(found, size, resize_to)
    assert (planned.evaluation.mode, planned.evaluation.canvas) == inside
    seen = images(rng, size)
    expected = [forward.predict_probabilities(planned, variables, image) for image in seen]
    run = jax.jit(single_pass.function(planned, size, "probabilities"))
    np.testing.assert_allclose(run(variables, seen), expected, rtol=0, atol=1e-6)


def test_grey_networks_are_padded_with_their_mean(rng):
    grey = Preprocessing(mean=(100.0, 100.0, 100.0), std=(50.0, 50.0, 50.0), order="grey")
    found = small_experiment(canvas=(20, 30))
    found = dataclasses.replace(found, data=dataclasses.replace(found.data, preprocessing=grey))
    variables = small_variables(found.model)
    variables["params"]["mix"]["kernel"] = variables["params"]["mix"]["kernel"][:, :, :1]
    planned, size = single_pass.plan(found, (17, 25))
    seen = images(rng, size)
    expected = [forward.predict_probabilities(planned, variables, image) for image in seen]
    run = single_pass.function(planned, size, "probabilities")
    np.testing.assert_allclose(run(variables, seen), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "new"),
    [
        ((90, 61), (40, 40)), ((20, 33), (47, 30)), ((375, 500), (257, 257)),
        ((500, 375), (257, 257)), ((7, 400), (7, 9)),
    ],
)  # fmt: skip
def test_images_are_resized_as_pillow_does(rng, size, new):
    image = images(rng, size, 1)
    expected = Image.fromarray(image[0]).resize(new[::-1], Image.Resampling.BILINEAR)
    found = single_pass._resized_as_pillow(image.astype(np.float32), new)
    np.testing.assert_array_equal(found[0], expected)


def test_the_kinds_of_output_agree(rng):
    found = small_experiment(canvas=(20, 30))
    planned, size = single_pass.plan(found)
    seen = images(rng, size)
    logits, shares, labels = (
        np.asarray(single_pass.function(planned, size, kind)(small_variables(found.model), seen))
        for kind in ("logits", "probabilities", "labels")
    )
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        shares, exponentials / exponentials.sum(-1, keepdims=True), atol=1e-6
    )
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, logits.argmax(-1))


@pytest.mark.parametrize(
    ("evaluation", "size", "resize_to", "message"),
    [
        ({}, None, None, "no canvas: give the size of the images, --size HEIGHT WIDTH"),
        ({"mode": "resize"}, (21, 31), None, "'resize' without evaluation.canvas"),
        ({"canvas": (21, 31)}, None, (21, 30), "does not take sides of 30 px; .*: 29, 31"),
    ],
)
def test_a_size_that_cannot_be_is_the_user_s_mistake(evaluation, size, resize_to, message):
    with pytest.raises(checks.UserError, match=message):
        single_pass.plan(small_experiment(OnlyOdd(), **evaluation), size, resize_to)


def test_every_experiment_has_a_plan():
    for name in experiments.names():
        planned, size = single_pass.plan(experiments.get(name), (360, 480))
        canvas, margin = planned.evaluation.canvas, windows.model_margin(planned.model)
        assert size == (360, 480)
        assert all(c >= s + 2 * margin for c, s in zip(canvas, size, strict=True)), name
        legal = getattr(planned.model, "legal_sizes", lambda side: (side,))
        assert all(side in legal(side) for side in canvas), name


def test_a_format_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="format"):
        convert.export(tmp_path, format="onyx")
