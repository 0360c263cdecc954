"""SegNet: Badrinarayanan, Kendall, Cipolla (PAMI 2017, arXiv 1511.00561); Bayesian SegNet."""

from functools import partial

from seg_jax.papers.figure import WITH_CRF, Figure

_CAMVID = "segnet_vgg16_camvid"
_BASIC = "segnet_basic_camvid"
_VOC = "segnet_vgg16_voc"


def _metrics(pixel: float, mean: float, boundary_f: float) -> tuple[tuple[str, float], ...]:
    """The paper's G, C and BF columns."""
    return (("pixel accuracy", pixel), ("mean accuracy", mean), ("boundary F", boundary_f))


_TEST = partial(
    Figure, family="SegNet", dataset="CamVid", split="test", source="PAMI 2017, Table 3",
    date="2016-10", trained_on="CamVid and others, 3433 images", recipe="other",
)  # fmt: skip
_STUDY = partial(
    Figure, family="SegNet", dataset="CamVid", split="test", source="PAMI 2017, Table 1",
    date="2016-10", trained_on="CamVid train, 367 images", pretraining="none",
)  # fmt: skip
_BALANCED = partial(_STUDY, note="median-frequency balancing")
_NATURAL = partial(_STUDY, recipe="other", note="natural frequencies: no class balancing")
_SERVER = partial(
    Figure, family="SegNet", split="test", experiment=_VOC, trained_on="not published",
    origin="leaderboard", source="VOC 2012 leaderboard", date="2015-11-10",
)  # fmt: skip
_BAYESIAN = partial(
    _SERVER, origin="paper", source="Bayesian SegNet (arXiv 1511.02680)", date="2015-11",
    verified="unverified", recipe="other",
)  # fmt: skip

# Table 1: the decoder, our variant, (mIoU, G, C, BF) with balanced and with natural frequencies.
_DECODERS = (
    ("SegNet-Basic", "", (47.7, 82.7, 62.0, 35.78), (46.3, 84.0, 54.6, 36.67)),
    ("Bilinear-Interpolation", "_bilinear",
     (43.3, 77.9, 61.1, 20.83), (43.8, 82.7, 52.5, 23.08)),
    ("SegNet-Basic-EncoderAddition", "_encoder_addition",
     (48.5, 83.4, 63.6, 35.92), (47.7, 84.2, 56.5, 36.27)),
    ("SegNet-Basic-SingleChannelDecoder", "_single_channel",
     (46.1, 81.2, 60.7, 31.62), (45.2, 83.5, 53.9, 32.45)),
    ("FCN-Basic", "_fcn", (47.3, 81.7, 62.4, 38.11), (45.0, 83.9, 55.6, 37.33)),
    ("FCN-Basic-NoAddition", "_fcn_no_addition",
     (44.1, 80.5, 58.6, 31.96), (44.2, 82.3, 53.9, 29.43)),
    ("FCN-Basic-NoDimReduction", "_fcn_no_reduction",
     (50.1, 84.1, 63.4, 37.37), (47.0, 83.5, 57.3, 37.13)),
    ("FCN-Basic-NoAddition-NoDimReduction", "_fcn_no_addition_no_reduction",
     (45.9, 80.5, 61.6, 30.47), (45.5, 83.7, 54.8, 33.17)),
)  # fmt: skip

FIGURES = (
    # SegNet against its peers, by training iterations; no class balancing.
    _TEST("SegNet, 140K", 60.10, experiment=_CAMVID, metrics=_metrics(90.40, 71.20, 46.84),
          note="the training mix is partly private; Table 2 gives the classes"),
    _TEST("SegNet, 40K", 50.02, experiment=_CAMVID, metrics=_metrics(88.81, 59.93, 35.78)),
    _TEST("SegNet, 80K", 57.18, experiment=_CAMVID, metrics=_metrics(89.68, 69.82, 42.08)),
    _TEST("DeepLab-LargeFOV, 40K", 50.18, metrics=_metrics(85.95, 60.41, 26.25)),
    _TEST("DeepLab-LargeFOV, 80K", 53.34, metrics=_metrics(87.76, 62.57, 32.04)),
    _TEST("DeepLab-LargeFOV, 140K", 53.88, metrics=_metrics(88.20, 62.53, 32.77)),
    _TEST("DeepLab-LargeFOV, 140K", 54.74, metrics=_metrics(89.71, 60.67, 40.79),
          protocol=WITH_CRF),
    _TEST("FCN (fixed deconv), 40K", 46.59, metrics=_metrics(81.97, 54.38, 22.86)),
    _TEST("FCN (fixed deconv), 80K", 47.95, metrics=_metrics(82.71, 56.22, 24.76)),
    _TEST("FCN (fixed deconv), 200K", 49.83, metrics=_metrics(83.27, 59.56, 27.99)),
    _TEST("FCN (learnt deconv), 40K", 48.68, metrics=_metrics(83.21, 56.05, 27.40)),
    _TEST("FCN (learnt deconv), 80K", 50.80, metrics=_metrics(83.71, 59.64, 31.01)),
    _TEST("FCN (learnt deconv), 160K", 51.96, metrics=_metrics(83.14, 64.21, 33.18)),
    *(
        _BALANCED(model, miou, experiment=f"{_BASIC}{decoder}", metrics=_metrics(*others))
        for model, decoder, (miou, *others), _ in _DECODERS
    ),
    *(
        _NATURAL(model, miou, experiment=f"{_BASIC}{decoder}", metrics=_metrics(*others))
        for model, decoder, _, (miou, *others) in _DECODERS
    ),
    # VOC.
    _SERVER("SegNet", 59.9, talk=True,
            note="the Bayesian SegNet paper gives 59.1; no figure on val was ever published"),
    _BAYESIAN("SegNet", 59.1, note="the leaderboard's entry says 59.9"),
    _BAYESIAN("Bayesian SegNet", 60.5, note="Monte Carlo dropout"),
    _BAYESIAN("Bayesian FCN-8", 65.4, family="FCN", experiment="",
              note="Monte Carlo dropout; 62.2 without"),
)  # fmt: skip
