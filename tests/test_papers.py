import dataclasses
import re
from collections import Counter

import pytest

from seg_jax import experiment, papers

# The names of the line's experiments; figures may belong to no others.
KNOWN = """
fcn32s_vgg16_voc fcn16s_vgg16_voc fcn8s_vgg16_voc fcn8s_atonce_vgg16_voc unet_isbi2012 unet_voc
segnet_vgg16_voc segnet_vgg16_camvid segnet_basic_camvid deeplab_v1_vgg16_voc
deeplab_v1_largefov_vgg16_voc deeplab_v1_msc_largefov_vgg16_voc deeplab_v2_vgg16_voc
deeplab_v2_resnet101_voc pspnet_resnet50_voc pspnet_resnet101_voc gcn_resnet50_voc
gcn_resnet101_voc gcn_resnet152_voc deeplab_v3_resnet50_voc deeplab_v3_resnet101_voc
deeplab_v3plus_resnet101_voc deeplab_v3plus_xception65_voc deeplab_v3plus_mobilenetv2_voc
""".split()

IDS = [f"{figure.model}-{figure.source}" for figure in papers.FIGURES]


@pytest.mark.parametrize("figure", papers.FIGURES, ids=IDS)
def test_figure_is_complete(figure):
    assert figure.family in papers.FAMILIES
    assert figure.model and figure.source and figure.split and figure.trained_on
    assert figure.experiment in {"", *KNOWN, *experiment.names()}
    assert figure.dataset in {
        "VOC 2012", "VOC 2011", "CamVid", "ISBI 2012", "ISBI 2015 PhC-U373", "ISBI 2015 DIC-HeLa",
    }  # fmt: skip
    assert re.fullmatch(r"(20\d\d(-[01]\d(-[0-3]\d)?)?)?", figure.date), figure.date
    # Percent, not fractions: the worst of the line is 20.29 (ResNet-50 at output stride 256).
    assert figure.metrics if figure.miou is None else 20 < figure.miou < 95
    if figure.experiment:
        assert papers.family_of(figure.experiment) == figure.family
    if figure.variant_experiment:
        assert figure.variant_experiment in experiment.names()
        assert figure.recipe == "other"  # of the experiment that the variant is one of


def test_one_result_stands_once():
    """The same model, trained and measured the same way, in one source, has but one number."""
    keys = Counter(
        dataclasses.replace(f, miou=None, metrics=(), note="", talk=False) for f in papers.FIGURES
    )
    assert not [figure for figure, count in keys.items() if count > 1]


def test_the_talks_four_figures():
    assert {(f.model, f.miou, f.date) for f in papers.TALK} == {
        ("FCN-8s", 62.2, "2014-11-12"),
        ("SegNet", 59.9, "2015-11-10"),
        ("DeepLab-CRF-COCO-LargeFOV", 72.7, "2015-03-18"),
        ("DeepLab-v2-CRF (ResNet-101)", 79.7, "2016-06-06"),
    }
    for figure in papers.TALK:
        assert (figure.dataset, figure.split) == ("VOC 2012", "test")
        assert figure.verified == "verified"
        assert papers.test_figure(figure.experiment) is figure
    # Two of them carry COCO and the CRF, two neither: the table must be able to say so.
    assert [(f.protocol.crf, "COCO" in f.pretraining) for f in papers.TALK] == [
        (False, False), (False, False), (True, True), (True, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("gcn_resnet152_voc", {82.2, 83.6}),
        ("fcn8s_vgg16_voc", {62.2, 67.2}),
        ("segnet_vgg16_voc", {59.9, 59.1}),
    ],
)
def test_contradicting_sources_are_both_there_and_say_so(name, figures):
    on_test = [
        f
        for f in papers.figures(name)
        if (f.dataset, f.split) == ("VOC 2012", "test") and f.miou in figures
    ]
    assert {f.miou for f in on_test} == figures
    for figure in on_test:
        (other,) = figures - {figure.miou}
        assert str(other) in figure.note


@pytest.mark.parametrize(
    ("name", "miou", "split"),
    [
        ("fcn32s_vgg16_voc", 63.6, "seg11valid"),
        ("fcn8s_vgg16_voc_cvpr", 62.7, "val"),
        ("fcn8s_vgg16_voc", 65.5, "seg11valid"),
        ("segnet_vgg16_voc", 59.9, "test"),
        ("segnet_vgg16_camvid", 60.1, "test"),
        ("segnet_basic_camvid", 47.7, "test"),
        ("deeplab_v1_largefov_vgg16_voc", 62.25, "val"),
        ("deeplab_v2_vgg16_voc", 68.96, "val"),
        ("deeplab_v2_resnet101_voc", 76.35, "val"),
        ("pspnet_resnet101_voc", 79.07, "val"),
        ("gcn_resnet152_voc", 74.7, "val"),
        ("deeplab_v3_resnet101_voc", 77.21, "val"),
        ("deeplab_v3plus_resnet101_voc", 78.85, "val"),
        ("deeplab_v3plus_xception65_voc", 79.79, "val"),
        ("deeplab_v3plus_mobilenetv2_voc", 75.32, "val"),
    ],
)
def test_headline_is_the_offline_target(name, miou, split):
    figure = papers.headline(name)
    assert (figure.miou, figure.split) == (miou, split)


def test_headline_without_a_figure():
    assert papers.headline("unet_voc") is None
    assert papers.headline("") is None  # figures without an experiment belong to nobody
    assert papers.test_figure("unet_voc") is None


def test_headline_of_another_recipe_says_so():
    name = "deeplab_v3_resnet50_voc"  # no figure by the authors
    assert papers.headline(name).origin == "reimplementation"
    assert not papers.headline(name).same_recipe(name)


def test_variant_shares_its_networks_figures():
    """One CVPR figure, seen from the experiment of the release and from that of the paper."""
    (figure,) = {f for f in papers.FIGURES if f.miou == 62.2}
    assert figure in papers.figures("fcn8s_vgg16_voc")
    assert figure in papers.figures("fcn8s_vgg16_voc_cvpr")
    assert not figure.same_recipe("fcn8s_vgg16_voc")
    assert figure.same_recipe("fcn8s_vgg16_voc_cvpr")


def test_test_figure_prefers_data_that_can_be_had():
    assert papers.test_figure("deeplab_v3_resnet101_voc").miou == 85.7  # 86.9 with JFT-300M
    assert papers.test_figure("deeplab_v3plus_xception65_voc").miou == 87.8
    assert papers.test_figure("pspnet_resnet101_voc").miou == 82.6  # without COCO, as we train


def test_test_figure_prefers_what_the_authors_say():
    """GCN's abstract says 82.2; DeepLab v3 cites a later submission, 83.6."""
    assert papers.test_figure("gcn_resnet152_voc").miou == 82.2


def test_rows_follow_the_line():
    rows = sorted(KNOWN, key=papers.order)
    families = [papers.family_of(name) for name in rows]
    assert list(dict.fromkeys(families)) == list(papers.FAMILIES)
    assert rows.index("fcn32s_vgg16_voc") < rows.index("fcn16s_vgg16_voc")
    assert rows.index("fcn16s_vgg16_voc") < rows.index("fcn8s_vgg16_voc")
    assert set(papers.experiments()) <= {*KNOWN, *experiment.names()}
    # An architecture of the user's comes after the line's, in its own alphabet.
    assert sorted([*rows, "zoo_net_voc", "alpha_net_voc"], key=papers.order)[-2:] == [
        "alpha_net_voc", "zoo_net_voc",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("deeplab_v3plus_resnet101_voc", "DeepLab v3+"),
        ("deeplab_v3_resnet101_voc", "DeepLab v3"),
        ("fcn_resnet50_voc", "FCN"),
        ("unet_quick", "U-Net"),
        ("unetplusplus_voc", ""),
        ("segnext_voc", ""),
    ],
)
def test_family_by_the_beginning_of_the_name(name, family):
    assert papers.family_of(name) == family


def test_protocol_reads_as_a_table_cell():
    assert str(papers.Protocol()) == "single scale"
    assert str(papers.Protocol(8, (0.5, 1.0), flip=True, crf=True)) == ("OS 8, 2 scales, flip, CRF")
    assert str(papers.Protocol(scales=())) == "several scales"
