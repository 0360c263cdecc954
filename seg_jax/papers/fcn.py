"""FCN: Long, Shelhamer, Darrell (CVPR 2015, arXiv 1411.4038); PAMI version (arXiv 1605.06211)."""

from functools import partial

from seg_jax.papers.figure import Figure, accuracies

# The CVPR networks: batches of 20, momentum 0.9. fcn8s_vgg16_voc etc. train as the later release.
_CVPR = partial(
    Figure, family="FCN", recipe="other", variant="cvpr", dataset="VOC 2011",
    trained_on="SBD train", source="CVPR 2015, Table 2", date="2014-11",
    note="736 images of VOC 2011 val; CVPR recipe",
)  # fmt: skip
_TRUNKS = partial(
    _CVPR, variant="", trained_on="VOC 2011 train", source="CVPR 2015, Table 1",
    note="trunks compared",
)  # fmt: skip
# "Heavy" learning: one whole image a step, momentum 0.99; the released Caffe models.
_HEAVY = partial(
    Figure, family="FCN", dataset="VOC 2011", split="seg11valid", trained_on="SBD train",
    origin="release", source="fcn.berkeleyvision.org, README", date="2016-05",
)  # fmt: skip
_RESCORED = partial(
    _HEAVY, origin="reimplementation", source="wkentaro/pytorch-fcn, README: released weights",
    date="2017",
)  # fmt: skip
_RETRAINED = partial(
    _HEAVY, origin="reimplementation", source="wkentaro/pytorch-fcn, README: retrained",
    date="2017",
)  # fmt: skip

_32S, _16S, _8S, _AT_ONCE = (
    f"{name}_vgg16_voc" for name in ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")
)

FIGURES = (
    _HEAVY("FCN-32s heavy", 63.6, experiment=_32S),
    _HEAVY("FCN-16s heavy", 65.0, experiment=_16S),
    _HEAVY("FCN-8s heavy", 65.5, experiment=_8S),
    _HEAVY("FCN-8s at-once heavy", 65.4, experiment=_AT_ONCE),
    _HEAVY("FCN-AlexNet heavy", 48.0),
    _RESCORED("FCN-32s heavy", 63.63, experiment=_32S),
    _RESCORED("FCN-16s heavy", 65.01, experiment=_16S),
    _RESCORED("FCN-8s heavy", 65.51, experiment=_8S),
    _RESCORED("FCN-8s at-once heavy", 65.40, experiment=_AT_ONCE),
    _RETRAINED("FCN-32s", 62.84, experiment=_32S),
    _RETRAINED("FCN-16s", 64.91, experiment=_16S),
    _RETRAINED("FCN-8s", 65.49, experiment=_8S),
    _RETRAINED("FCN-8s at-once", 64.74, experiment=_AT_ONCE),
    _CVPR("FCN-32s-fixed", 45.4, metrics=accuracies(83.0, 59.7, 72.0), note="last layer only"),
    _CVPR("FCN-32s", 59.4, experiment=_32S, metrics=accuracies(89.1, 73.3, 81.4)),
    _CVPR("FCN-16s", 62.4, experiment=_16S, metrics=accuracies(90.0, 75.7, 83.0)),
    _CVPR("FCN-8s", 62.7, experiment=_8S, metrics=accuracies(90.3, 75.9, 83.2)),
    _TRUNKS("FCN-AlexNet", 39.8),
    _TRUNKS("FCN-VGG16", 56.0, experiment=_32S),
    _TRUNKS("FCN-GoogLeNet", 42.5),
    _CVPR("FCN-8s", 62.7, experiment=_8S, split="test", source="CVPR 2015, Table 3",
          note="CVPR recipe"),
    _CVPR("FCN-8s", 62.2, experiment=_8S, dataset="VOC 2012", split="test", origin="leaderboard",
          source="VOC 2012 leaderboard; CVPR 2015, Table 3", date="2014-11-12", talk=True,
          note="CVPR recipe; the heavy FCN-8s of 2016 scores 67.2: both are called FCN-8s"),
    _HEAVY("FCN-8s heavy", 67.5, experiment=_8S, split="test", origin="paper",
           source="PAMI 2017, Table 4", verified="unverified"),
    _HEAVY("FCN-8s heavy", 67.2, experiment=_8S, dataset="VOC 2012", split="test",
           note="the CVPR network of 2014 scores 62.2: both are called FCN-8s"),
)  # fmt: skip
