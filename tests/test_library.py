"""`import seg_jax as sj`: the ten names, checks of what goes in, and batches of other libraries."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import seg_jax as sj
from seg_jax import losses, train_state
from seg_jax.checks import UserError
from seg_jax.models.segnet import SegNetBasic
from seg_jax.models.unet import UNet
from seg_jax.runs import checkpoint
from seg_jax.runs import log as logs

NAMES = {
    "models", "network", "load", "losses", "metrics", "crf", "data", "fit", "evaluate", "predict",
    "experiment",
}  # fmt: skip


def test_names_are_loaded_when_they_are_used():
    """In a new process: importing costs nothing, and every name is there."""
    code = f"""
import sys, time
began = time.perf_counter()
import seg_jax as sj
took = time.perf_counter() - began
heavy = {{"jax", "numpy", "flax", "optax", "PIL", "importlib.metadata"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert took < 0.2, took  # 2 ms on an idle machine
assert {NAMES!r} == set(sj.__all__) and {NAMES!r} <= set(dir(sj))
assert "jax" not in sys.modules
for name in sj.__all__:
    assert getattr(sj, name) is not None
from seg_jax import checks, crf, models  # a submodule, and two of the names
assert sj.network("unet_voc", num_classes=5).num_classes == 5
try:
    sj.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise SystemExit("no AttributeError")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_field_of_a_network_is_named():
    with pytest.raises(UserError, match="num_classes"):
        sj.network("unet_voc", num_clases=5)


@pytest.mark.parametrize(
    "model",
    [
        UNet(num_classes=3, depth=2, width=1 / 16, padding="same", dropout=0.0),
        SegNetBasic(num_classes=3, width=1 / 16),
    ],
    ids=["unet", "segnet_basic"],
)
def test_networks_refuse_what_is_no_normalised_image(model):
    """Also under jit, where the check is made once, when it is traced."""
    variables = train_state.init_variables(model, input_shape=(1, 32, 48, 3), seed=0)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    with pytest.raises(ValueError, match="uint8.*preprocessing"):
        apply(jnp.zeros((1, 32, 48, 3), jnp.uint8))
    if isinstance(model, UNet):
        with pytest.raises(ValueError, match="channels first"):
            apply(jnp.zeros((1, 3, 32, 48)))


def test_a_dictionary_of_heads_is_not_an_array():
    logits, label = jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4), jnp.int32)
    with pytest.raises(ValueError, match='dictionary, {"out"'):
        losses.loss_sums(logits, label, losses.LossConfig())
    with pytest.raises(ValueError, match=r"take one of \['out'\]"):
        losses.cross_entropy_sums({"out": logits}, label)


class TestConfusionOfPredictionsOutOfRange:
    """pred=3 of k=3 used to count as truth 1, prediction 0."""

    @pytest.mark.parametrize("count", [sj.metrics.confusion, sj.metrics.confusion_on_host])
    @pytest.mark.parametrize("bad", [3, -1])
    def test_is_an_error(self, count, bad):
        label = np.zeros((2, 2), np.int32)
        with pytest.raises(ValueError, match=f"{bad}.* 3 classes, 0 to 2"):
            count(label, np.array([[0, 0], [0, bad]], np.int32), 3)

    def test_under_jit_no_metric_takes_the_counts(self):
        count = jax.jit(sj.metrics.confusion, static_argnums=2)
        label = jnp.zeros((2, 2), jnp.int32)
        right = count(label, jnp.array([[0, 1], [2, 0]]), 3)
        np.testing.assert_array_equal(right, [[2, 1, 1], [0, 0, 0], [0, 0, 0]])
        with pytest.raises(ValueError, match="no class"):
            sj.metrics.mean_iou(count(label, jnp.array([[0, 1], [3, 0]]), 3))


BATCHES = [tiny.make_batch(np.random.default_rng(seed), n=4, size=16) for seed in range(3)]


def variables_of(run):
    return checkpoint.restore_variables(run)[1]


class TestBatchesOfTheUsersOwn:
    def test_lists_tuples_and_tensors_train_alike(self, tmp_path):
        """Over two epochs; a run that goes on begins the iterable anew."""
        experiment = tiny.experiment(checkpoint_every=3)

        class Tensor:  # what PyTorch's have
            def __init__(self, array):
                self.array = array

            def detach(self):
                return self

            def cpu(self):
                return self.array

        tuples = [(Tensor(b["image"]), b["label"].astype(np.int64)) for b in BATCHES]
        trained = sj.fit(experiment, str(tmp_path / "a"), batches=BATCHES, progress=False)
        sj.fit(experiment, tmp_path / "b", batches=tuples, progress=False)
        assert tiny.largest_difference(trained.variables, variables_of(tmp_path / "b")) == 0
        for step in (1, 2, 3):
            sj.fit(
                dataclasses.replace(
                    experiment, train=dataclasses.replace(experiment.train, steps=2 * step),
                    optim=dataclasses.replace(experiment.optim, schedule=sj_fixed()),
                ),
                tmp_path / "c", batches=BATCHES[:2], progress=False,
            )  # fmt: skip
        assert checkpoint.newest(tmp_path / "c") == 6
        events = [line["message"] for line in logs.read(tmp_path / "c") if line["kind"] == "event"]
        assert "extended from 2 to 4 steps" in events and "extended from 4 to 6 steps" in events

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda b: {**b, "image": np.moveaxis(b["image"], -1, 1)}, "channels first"),
            (lambda b: {**b, "image": b["image"].astype(np.float32)}, "uint8 .n h w 3."),
            (lambda b: {**b, "label": b["label"].astype(np.int64) - 100}, "void is 255"),
            (lambda b: {**b, "label": b["label"].astype(np.float32)}, "label must be integers"),
            (lambda b: {**b, "name": "x"}, "rename or remove"),
            (lambda b: b["image"], "mapping with image and label"),
            (lambda b: {key: value[:3] for key, value in b.items()}, "drop_last=True"),
        ],
    )
    def test_what_is_no_batch_is_refused(self, tmp_path, change, message):
        with pytest.raises((ValueError, UserError), match=message):
            sj.fit(
                tiny.experiment(), tmp_path / "run", batches=[change(BATCHES[0])], progress=False
            )

    def test_an_iterator_that_ends_says_so(self, tmp_path):
        with pytest.raises(UserError, match="ended after 3"):
            sj.fit(tiny.experiment(), tmp_path / "run", batches=iter(BATCHES), progress=False)

    def test_torch(self, tmp_path):
        torch = pytest.importorskip("torch")
        images = torch.utils.data.TensorDataset(
            *(torch.from_numpy(np.concatenate([b[k] for b in BATCHES])) for k in BATCHES[0])
        )
        loader = torch.utils.data.DataLoader(images, batch_size=4)
        check_like_lists(loader, tmp_path)

    def test_tensorflow(self, tmp_path):
        tf = pytest.importorskip("tensorflow")
        whole = {key: np.concatenate([b[key] for b in BATCHES]) for key in BATCHES[0]}
        check_like_lists(tf.data.Dataset.from_tensor_slices(whole).batch(4), tmp_path)


def check_like_lists(loader, folder):
    sj.fit(tiny.experiment(), folder / "a", batches=loader, progress=False)
    sj.fit(tiny.experiment(), folder / "b", batches=BATCHES, progress=False)
    a, b = variables_of(folder / "a"), variables_of(folder / "b")
    assert tiny.largest_difference(a, b) == 0


def sj_fixed():
    return tiny.Schedule("fixed")


def test_fit_evaluate_and_predict(tmp_path):
    root = tiny.write_pictures(tmp_path / "voc")
    trained = sj.fit(tiny.experiment(root=root), tmp_path / "run", progress=False)
    scores = sj.evaluate(str(tmp_path / "run"), progress=False)
    assert scores.images == 8 and scores.mean_iou == pytest.approx(
        sj.evaluate(trained, sj.data.open_source("voc2012", str(root), "val")).mean_iou
    )
    image = sj.data.open_source("voc2012", root, "val")[0]["image"]
    label = sj.predict(trained, image)
    shares = sj.predict(str(tmp_path / "run"), image, probabilities=True)
    assert label.shape == image.shape[:2] and label.dtype == np.uint8
    np.testing.assert_array_equal(label, shares.argmax(-1))
    with pytest.raises(ValueError, match="channels first"):
        sj.predict(trained, np.moveaxis(image, -1, 0))
    with pytest.raises(ValueError, match="float32"):
        sj.predict(trained, image.astype(np.float32))
