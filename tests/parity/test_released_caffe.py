"""SegNet, DeepLab v1 and v2 against the authors' prototxt files, rebuilt in PyTorch.

At full width once, at the published crop; the rest at an eighth of the channels and odd sizes.
"""

import dataclasses

import jax
import numpy as np
import pytest
import torch_parity as parity

from seg_jax import experiment, losses
from seg_jax.models.segnet import SegNet, SegNetBasic
from seg_jax.nn import torch_state
from seg_jax.nn.norm import Norm

torch = parity.torch
caffe = pytest.importorskip("torch_caffe")

# torch's norms keep 0.9 of their running averages.
SEGNET_NORM = Norm(momentum=0.9, epsilon=1e-9)
FC4096 = {"kernel": 4, "rate": 4, "fc": 4096}
NETWORKS = {
    "segnet_vgg16_camvid": (caffe.SegNet, {}, "segnet_train.prototxt"),
    "segnet_basic_camvid": (caffe.SegNetBasic, {}, "segnet_basic_train.prototxt"),
    "deeplab_v1_vgg16_voc": (caffe.DeepLabV1, FC4096, "DeepLab/train.prototxt"),
    "deeplab_v1_4x4_vgg16_voc": (
        caffe.DeepLabV1, FC4096 | {"rate": 8}, "DeepLab/train.prototxt, fc6 at rate 8",
    ),
    "deeplab_v1_7x7_vgg16_voc": (
        caffe.DeepLabV1, FC4096 | {"kernel": 7}, "DeepLab/train.prototxt, fc6 7x7",
    ),
    "deeplab_v1_largefov_vgg16_voc": (caffe.DeepLabV1, {}, "DeepLab-LargeFOV/train.prototxt"),
    "deeplab_v1_msc_largefov_vgg16_voc": (
        caffe.DeepLabV1, {"multi_scale": True}, "DeepLab-MSc-LargeFOV/train.prototxt",
    ),
    "deeplab_v2_vgg16_voc": (caffe.DeepLabV2VGG, {}, "v2 vgg16/train.prototxt"),
    "deeplab_v2_aspp_s_vgg16_voc": (
        caffe.DeepLabV2VGG, {"rates": (2, 4, 8, 12)}, "v2 vgg16/train.prototxt, ASPP-S",
    ),
    "deeplab_v2_largefov_vgg16_voc": (
        caffe.DeepLabV2VGG, {"rates": (12,)}, "v2 vgg16/train.prototxt, LargeFOV",
    ),
    "deeplab_v2_resnet101_voc": (caffe.DeepLabV2ResNet, {}, "DEEPLABV2-RESNET101/train.prototxt"),
}  # fmt: skip
# The study's decoders: the paper's text is all there is.
DECODERS = {
    f"segnet_basic_camvid_{name}": (caffe.SegNetBasic, {"decoder": name}, "PAMI 2017, section 3.3")
    for name in (
        "encoder_addition", "single_channel", "bilinear", "fcn", "fcn_no_addition",
        "fcn_no_reduction", "fcn_no_addition_no_reduction",
    )
}  # fmt: skip


def ours(name, width=1, **backbone):
    """The experiment's network, without dropout, thinner; of its norms the momentum is torch's."""
    model = experiment.get(name).model.clone(num_classes=21)
    if isinstance(model, SegNet | SegNetBasic):
        return model.clone(dropout_at="none", norm=SEGNET_NORM, width=1 / width)
    trunk = dataclasses.replace(model.backbone, width=1 / width, parent=None, **backbone)
    return model.clone(dropout=0.0, width=1 / width, backbone=trunk)


def build(name, width=1, **fields):
    kind, arguments, _ = {**NETWORKS, **DECODERS}[name]
    model = ours(name, width, **({"depth": 14} if "units" in fields else {}))
    module = kind(model.num_classes, width=width, **arguments, **fields)
    return parity.randomise(module), model


def import_state(model):
    image_shape = (1, *legal(model, (33, 33)), 3)

    def run(state):
        # Torch keeps a transposed convolution's input channels first.
        state = {k: v.swapaxes(0, 1) if "upsample" in k else v for k, v in state.items()}
        return torch_state.import_state(model, state, caffe.layer_name, image_shape=image_shape)

    return run


def legal(model, size):
    """The next sides that the network takes."""
    nearest = getattr(model, "legal_sizes", lambda side: (side,))
    return tuple(nearest(side)[-1] for side in size)


def record(parity_record, name, what, error):
    source = {**NETWORKS, **DECODERS}[name][2]
    parity_record(name, f"PyTorch functions, from {source}", what, error)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"segnet_vgg16_camvid"}))
def test_evaluation_at_the_crop(name, parity_record):
    crop = experiment.get(name).data.augmentation.crop
    module, model = build(name)
    variables = import_state(model)(parity.state_of(module))
    error = parity.evaluation_error(module, model, variables, crop)
    record(parity_record, name, f"evaluation logits {crop[0]}x{crop[1]}", error)


def test_evaluation_of_segnet_at_the_crop(parity_record):
    """In float64. Among the five million places that its pools hand over are some where the two
    largest values differ by less than float32's rounding: there a correct implementation may choose
    the other one, and a value moves by a pixel (in float32 the logits differ by 1 % somewhere).
    """
    name = "segnet_vgg16_camvid"
    crop = experiment.get(name).data.augmentation.crop
    module, model = build(name)
    variables = import_state(model)(parity.state_of(module))
    image = parity.image_of(crop)
    module.double().eval()
    with torch.no_grad():
        expected = parity.nhwc(module(parity.nchw(image).double()))
    with jax.enable_x64(True):
        wide = jax.tree.map(np.float64, variables)
        apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["out"])
        actual = np.asarray(apply(wide, np.float64(image)))
    error = parity.relative_error(actual, expected)
    record(parity_record, name, "evaluation logits 360x480 (float64)", error)


@pytest.mark.parametrize("name", sorted({*NETWORKS, *DECODERS} - {"deeplab_v2_resnet101_voc"}))
def test_odd_size_and_training(name, parity_record):
    module, model = build(name, width=8)
    size = legal(model, (57, 73))
    what = f"{size[0]}x{size[1]}, width 1/8"
    variables = import_state(model)(parity.state_of(module))
    error = parity.evaluation_error(module, model, variables, size)
    record(parity_record, name, f"evaluation logits {what}", error)
    # All of SegNet's convolutions but the classifier have a bias, and a norm behind it.
    biases = r"(?!conv1_1_D/|conv_classifier/|\w*_bn/)conv\w*/bias"
    errors = parity.training_errors(
        module,
        model,
        import_state(model),
        size,
        heads=(("out", 1.0),),
        cancelled=biases if name.startswith("segnet") else "",
    )
    for kind, error in errors.items():
        record(parity_record, name, f"{kind} {what}", error)


def test_four_losses_of_frozen_resnet(parity_record):
    """The experiment's loss, with one unit a block: each scale's scores and the fused ones, means
    over each image's valid pixels of the label shrunk by 8, 8, 8 and 16.
    """
    name, size = "deeplab_v2_resnet101_voc", (65, 97)
    module, model = build(name, width=8, units=(1, 1, 1, 1))
    image, label = parity.image_of(size, n=2), parity.label_of(size, n=2)
    label[1, :, :60] = 255  # the images' numbers of valid pixels differ
    variables = import_state(model)(parity.state_of(module))
    config = experiment.get(name).loss

    module.double().train()
    expected = module(parity.nchw(image).double())
    total = 0
    for head, step in (("out", 8), ("scale1", 8), ("scale0.75", 8), ("scale0.5", 16)):
        truth = torch.from_numpy(label[:, ::step, ::step]).long()
        scores = expected[head][:, :, ::step, ::step]
        for one, its_truth in zip(scores.split(1), truth.split(1), strict=True):
            total += torch.nn.functional.cross_entropy(one, its_truth, ignore_index=255) / 2
    total.backward()

    def loss(params, image):
        state = {**variables, "params": params}
        outputs, changed = model.apply(state, image, train=True, mutable=["batch_stats"])
        value, count = losses.loss_sums(outputs, label, config)
        return value / count.astype(value.dtype), (outputs, changed)

    value, (outputs, changed) = jax.jit(loss)(variables["params"], image)
    assert abs(value - total.item()) < 1e-5 * abs(total.item())
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])
    errors = [
        parity.relative_error(outputs[head], parity.nhwc(scores))
        for head, scores in expected.items()
    ]
    what = "65x97, width 1/8, one unit a block"
    record(parity_record, name, f"training logits {what}", max(errors))

    grads = {k: p.grad.numpy() for k, p in module.named_parameters() if p.grad is not None}
    expected = import_state(model)({**parity.state_of(module), **grads})["params"]
    with jax.enable_x64(True):
        wide = jax.tree.map(np.float64, variables["params"])
        actual = jax.jit(jax.grad(loss, has_aux=True))(wide, np.float64(image))[0]
    worst = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(actual):
        if "'bn'" in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(leaf, 0)
        else:
            truth = expected
            for entry in path:
                truth = truth[entry.key]
            worst = max(worst, parity.relative_error(leaf, truth))
    record(parity_record, name, f"gradients (float64) {what}", worst)
