"""FCN on dilated ResNets: torchvision's parameter counts, any size, an auxiliary head for training.

Its logits are compared with torchvision's in tests/parity.
"""

import jax
import jax.numpy as jnp
import pytest

from seg_jax.backbones.resnet import ResNet
from seg_jax.models.fcn_resnet import FCNResNet, torchvision_layer


def evaluate_shapes(model, size, *, train):
    def run(key, image):
        variables = model.init(key, image, train=False)
        outputs = model.apply(
            variables, image, train=train, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return outputs[0], variables["params"]

    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(run, jax.random.key(0), image)


@pytest.mark.parametrize(
    ("depth", "count"),
    [(50, 35_322_218), (101, 54_314_346)],  # num_params of torchvision's COCO_WITH_VOC_LABELS_V1
)
def test_parameter_count(depth, count):
    model = FCNResNet(backbone=ResNet(depth, output_stride=8))
    outputs, params = evaluate_shapes(model, (97, 129), train=True)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    assert {name: logits.shape for name, logits in outputs.items()} == {
        "out": (2, 97, 129, 21),
        "aux": (2, 97, 129, 21),
    }


@pytest.mark.parametrize("size", [(480, 480), (60, 71)])
def test_any_size_in_the_same_size_out(size):
    model = FCNResNet(width=1 / 16, backbone=ResNet(14, output_stride=8, width=1 / 16))
    outputs, params = evaluate_shapes(model, size, train=False)
    assert {name: logits.shape for name, logits in outputs.items()} == {"out": (2, *size, 21)}
    assert "aux_head" in params  # which evaluation does not run


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("backbone/conv1/bn", "backbone.bn1"),
        ("backbone/block3_unit6/conv2/conv", "backbone.layer3.5.conv2"),
        ("backbone/block4_unit1/shortcut/bn", "backbone.layer4.0.downsample.1"),
        ("out_head/conv/conv", "classifier.0"),
        ("aux_head/score", "aux_classifier.4"),
        ("backbone/conv1_1/conv", None),  # torchvision has no 3x3 stem
    ],
)
def test_names_of_torchvision(ours, theirs):
    assert torchvision_layer(ours) == theirs
