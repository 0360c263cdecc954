"""Networks with group norms in the place of their batch norms: `--model.norm group`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax import checks, config, experiment, optim
from seg_jax.cli import parsing
from seg_jax.cli.show import ShowOptions
from seg_jax.data.preprocessing import TORCH
from seg_jax.nn import norm_inputs
from seg_jax.nn.norm import Norm
from seg_jax.pretrained import averages, initialise, warm_start

SIDE = 65


def parse(*words):
    return parsing.parse_experiment(list(words), "show", ShowOptions)[0]


def small(chosen):
    """The network with few channels, and few units where it is a ResNet."""
    fewer = config.replace_everywhere(
        chosen.model, lambda node: {"depth": 14} if getattr(node, "variant", None) else {}
    )
    model = config.replace_everywhere(
        fewer, lambda node: {"multi_grid": ()} if getattr(node, "multi_grid", ()) else {}
    )
    return experiment.shrink(model, width=1 / 8)


def variables_of(model, side=SIDE):
    image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    return jax.eval_shape(lambda x: model.init(keys, x, train=True), image)


def kinds(value):
    """Every Norm in a network's configuration."""
    if isinstance(value, Norm):
        return [value]
    inner = value if isinstance(value, tuple) else ()
    if hasattr(value, "__dataclass_fields__"):
        inner = config.fields(value).values()
    return [norm for item in inner for norm in kinds(item)]


def check(name, *words):
    before, after = parse(name, *words), parse(name, *words, "--model.norm", "group:2")
    assert {(norm.statistics, norm.groups) for norm in kinds(after.model)} == {("group", 2)}
    side = 64 if name.startswith("gcn") else SIDE  # whose upsampling doubles
    ours, theirs = (variables_of(small(found), side) for found in (after, before))
    assert not ours.get("batch_stats") and theirs["batch_stats"]
    assert jax.tree.structure(ours["params"]) == jax.tree.structure(theirs["params"])
    found = optim.multipliers(after.optim, ours["params"])
    assert all(found[norm][0] > 0 for norm in found if norm.endswith("/scale"))
    assert not norm_inputs.norms(small(after), (1, side, side, 3))
    assert not averages.warnings(after)


def test_one_option_reaches_every_norm():
    """The batch norms of this recipe are frozen, and its rules hold their parameters as well."""
    check("deeplab_v2_resnet101_voc")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "segnet_vgg16_camvid", "segnet_basic_camvid", "pspnet_resnet50_voc", "gcn_resnet50_voc",
        "fcn_resnet50_voc", "deeplab_v3_resnet50_voc", "deeplab_v3plus_xception65_voc",
        "deeplab_v3plus_xception65_voc --model.backbone mobilenet_v2",
    ],
)  # fmt: skip
def test_every_architecture_that_has_norms(words):
    check(*words.split())


def test_a_network_that_has_none_gets_them_if_it_can():
    chosen = parse("unet_voc", "--model.norm=group:2")
    params = variables_of(experiment.shrink(chosen.model), 188)["params"]
    assert params["norm_d0a-b"].keys() == {"scale", "bias"}
    optim.multipliers(chosen.optim, params)
    for name, option, reason in (
        ("fcn8s_vgg16_voc", "group", "FCN has no norms"),
        ("unet_voc", "groups", "did you mean group"),
        ("unet_voc", "sync:4", "perhaps group:16"),
        ("unet_voc", "group:0", "perhaps group:16"),
    ):
        with pytest.raises(checks.UserError, match=f"--model.norm {option}: .*{reason}"):
            parse(name, "--model.norm", option)
    assert parse("pspnet_resnet50_voc", "--model.norm", "sync") == experiment.get(
        "pspnet_resnet50_voc"
    )


def test_scale_and_bias_of_batch_norms_are_not_taken_and_it_is_said():
    """Of published weights and of a run; the convolutions arrive."""
    chosen = experiment.get("fcn_resnet50_voc").with_norm("group:2")
    shapes = [variables_of(small(found)) for found in (chosen, chosen.with_norm("sync"))]
    rng = np.random.default_rng(0)
    ours, theirs = jax.tree.map(lambda leaf: np.float32(rng.random(leaf.shape)), shapes)
    source = initialise.Source("theirs", theirs, TORCH, experiment=None)
    found, report = initialise.initialise(ours, source, preprocessing=TORCH)
    copied, problems = warm_start.copy_matching(ours, theirs)
    norms = [name for name, how in report.layers if how == "new (batch norm there)"]
    assert len(norms) == len([n for n in jax.tree.leaves_with_path(theirs["batch_stats"])]) // 2
    (note,) = report.notes
    assert note.startswith(f"scale and bias of {len(norms)} norms are not loaded")
    assert not report.complete
    assert {n for n, why in problems.items() if why == "batch norm there"} == set(norms)
    for result in (found, copied):
        conv, bn = (result["params"]["backbone"]["conv1"][part] for part in ("conv", "bn"))
        wanted = theirs["params"]["backbone"]["conv1"]["conv"]["kernel"]
        np.testing.assert_array_equal(conv["kernel"], wanted)
        np.testing.assert_array_equal(
            bn["scale"], ours["params"]["backbone"]["conv1"]["bn"]["scale"]
        )
    _, problems = warm_start.copy_matching(theirs, ours)
    assert {n for n, why in problems.items() if why == "group norm there"} == set(norms)
