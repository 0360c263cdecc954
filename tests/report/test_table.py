"""The tables: a row for each network, our scores only where comparable, generated pages."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_record import made_up_scores, small_record, small_run

from seg_jax import papers
from seg_jax.checks import UserError
from seg_jax.papers import Protocol
from seg_jax.report import rows, table

RESULTS = Path(__file__).parents[2] / "docs" / "results.md"


def cells(grid):
    """Return {experiment: {title: cell}} of the table of all networks."""
    titles = [column.title for column in grid.columns]
    found = [dict(zip(titles, row, strict=True)) for row in grid.rows]
    return {row["experiment"]: row for row in found}


def test_every_network_has_a_row_and_what_has_not_run_says_so():
    found = cells(table.networks_grid([]))
    assert set(papers.experiments()) <= set(found)
    assert {row["here"] for row in found.values()} == {"not run"}


def test_the_talk_s_test_figures_are_in_the_table():
    found = cells(table.networks_grid([]))
    for figure in papers.TALK:
        row = found[figure.experiment]
        assert row["VOC 2012 test"] == f"{figure.miou}"
        assert figure.date in row["with"]
        assert ("CRF" in row["with"]) == figure.protocol.crf


def test_published_figures_stand_with_split_and_protocol():
    found = cells(table.networks_grid([]))
    row = found["deeplab_v3_resnet101_voc"]
    assert (row["published"], row["on"]) == ("77.21", "VOC 2012 val")
    assert "OS 16" in row["protocol"]
    assert found["fcn16s_vgg16_voc"]["published"] == "65.0"
    assert found["deeplab_v2_vgg16_voc"]["published"] == "68.96 †"
    assert found["unet_voc"]["published"] == "–"
    assert "Rand error 0.0382" in found["unet_isbi2012"]["published"]


def voc(name="deeplab_v3_resnet101_voc", **changes):
    return small_record(name, **{"data": "voc2012", **changes})


def test_a_record_of_the_official_split_fills_its_cell():
    score = 100 * made_up_scores().mean_iou
    assert cells(table.networks_grid([voc()]))["deeplab_v3_resnet101_voc"]["here"] == f"{score:.1f}"


@pytest.mark.parametrize(
    "record",
    [
        voc(data="voc2012-part"),
        voc(data="synthetic_voc"),
        voc(data="folder:voc2012"),
        voc(split="train"),
        voc(split="trainval"),
    ],
    ids=lambda record: f"{record.data.name}-{record.data.split}",
)
def test_a_record_of_other_images_never_fills_a_published_cell(record):
    found = cells(table.networks_grid([record]))
    assert {row["here"] for row in found.values()} == {"not run"}


@pytest.mark.parametrize("trained_on", ["trainval", "trainval_aug"])
def test_a_score_on_training_images_is_not_shown(trained_on):
    record = voc()
    split = dataclasses.replace(record.training.data, split=trained_on)
    leaked = dataclasses.replace(record, training=dataclasses.replace(record.training, data=split))
    assert cells(table.networks_grid([leaked]))[leaked.experiment]["here"] == "not run"
    assert "not comparable" in table.networks_markdown([leaked])


def test_a_record_of_another_split_than_the_published_one_says_so():
    """FCN's authors scored 736 images of VOC 2011; our record is on VOC 2012 val."""
    found = cells(table.networks_grid([voc("fcn8s_vgg16_voc")]))["fcn8s_vgg16_voc"]
    assert found["on"] == "VOC 2011 seg11valid"
    assert found["here"].endswith("(VOC 2012 val)")
    same = cells(table.networks_grid([voc("fcn8s_vgg16_voc", split="seg11valid")]))[
        "fcn8s_vgg16_voc"
    ]
    assert "(" not in same["here"]


def test_several_seeds_show_mean_and_standard_deviation():
    scores = [100 * made_up_scores(seed).mean_iou for seed in range(3)]
    name = "deeplab_v3_resnet101_voc"
    records = [voc(seed=seed) for seed in range(3)]
    here = cells(table.networks_grid(records))[name]["here"]
    assert here == f"{np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f} (3 seeds)"
    again = [voc(scores=made_up_scores(seed)) for seed in range(2)]  # one seed, evaluated twice
    assert cells(table.networks_grid(again))[name]["here"].endswith("(2 runs)")


def test_without_a_published_figure_camvid_is_shown_on_test():
    name = "deeplab_v3_mobilenetv2_camvid"
    val, test = (small_record(name, data="camvid", split=split) for split in ("val", "test"))
    score = 100 * made_up_scores().mean_iou
    here = cells(table.networks_grid([val, test]))[name]["here"]
    assert here == f"{score:.1f} (CamVid test)"
    assert cells(table.networks_grid([val]))[name]["here"] == "not run"


def test_a_cell_is_of_one_protocol():
    plain, scales = Protocol(output_stride=16), Protocol(output_stride=8, scales=(0.5, 1.0))
    records = [voc(seed=1, protocol=scales), voc(seed=2, protocol=plain)]
    score = 100 * made_up_scores(2).mean_iou
    assert cells(table.networks_grid(records))["deeplab_v3_resnet101_voc"]["here"] == f"{score:.1f}"
    score = 100 * made_up_scores(1).mean_iou
    only = cells(table.networks_grid(records[:1]))["deeplab_v3_resnet101_voc"]["here"]
    assert only == f"{score:.1f} (OS 8, 2 scales)"


def test_every_row_of_measurements_has_protocol_and_provenance():
    text = table.measurements_markdown([small_record("mine", revision=None, dirty=None)])
    scores = made_up_scores()
    for value in (
        f"{100 * scores.mean_iou:.1f}",
        f"{100 * scores.boundary_f1:.1f}",
        f"{100 * scores.trimap_iou[1]:.1f}",
        "134.3 M",
        "1.4 min",
        "memory val: 3 images",
        "sides padded to multiples of 16 px; OS 8, single scale",
        "no checkout",
        "16x16",
        "2026-11-22",
    ):
        assert value in text
    assert "0123456789+" in table.measurements_markdown([small_record(dirty=True)])


def test_one_record_in_the_terminal_shows_every_class():
    text = table.record_text(small_record("mine"))
    for name, iou in zip(
        ("background", "disc", "bar &lt;b&gt;"), made_up_scores().per_class_iou, strict=True
    ):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {name}")]
        assert f"{100 * iou:.1f}" in line


def test_one_record_in_the_terminal_shows_every_metric_that_has_a_score():
    scores = made_up_scores()
    text = table.record_text(small_record("mine"))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:1] == "|"}
    for name, value in (
        ("mean Dice", scores.mean_dice),
        ("mean IoU of single images", scores.mean_image_iou),
        ("accuracy within 7 px of a boundary", scores.boundary_accuracy),
        ("IoU of small objects", scores.object_iou[0]),
        ("trimap mIoU, 5 px", scores.trimap_iou[2]),
    ):
        assert f"| {100 * value:.1f} |" in lines[name]
    assert "IoU of large objects" not in lines  # there are none
    first = f"mIoU {100 * scores.mean_iou:.1f} % on memory val: 3 images, protocol native (OS 8, "
    assert text.startswith(first) and "trained on: memory val" in text
    assert max(map(len, text.splitlines())) <= 100
    errors = np.array([[1, 2, 2, 0], [1, 1, 1, 1]]) * np.array([[2**22], [1]])
    membranes = small_record(scores=dataclasses.replace(scores, membranes=errors))
    assert "| ISBI 2012 warping error" in table.record_text(membranes)
    assert "0.1953 |" in table.record_text(membranes)  # 2^23 of 2^32, in percent


def test_measurements_on_other_images_are_listed_separately():
    text = table.networks_markdown([voc(), voc("other", data="voc2012-part")])
    comparable, _, apart = text.partition("not comparable")
    assert "voc2012-part" in apart
    assert "voc2012-part" not in comparable


def test_a_band_that_was_not_measured_has_no_score():
    record = small_record(scores=made_up_scores(trimap_px=(5,)))
    titles = [column.title for column in table.score_grid([record]).columns]
    row = dict(zip(titles, table.score_grid([record]).rows[0], strict=True))
    assert row["trimap 2 px"] == "–"
    assert row["trimap 5 px"] != "–"


def test_json_has_the_same_with_all_metrics(tmp_path):
    small_run(tmp_path / "run")
    shown = table.as_json([tmp_path / "run"])
    assert list(shown) == ["measurements"]
    (entry,) = shown["measurements"]
    assert entry["metrics"]["mean_iou"] == made_up_scores().mean_iou
    assert entry["training"]["steps"] == 600
    line = table.as_json()["line"]
    assert [row["experiment"] for row in line] == [r[1] for r in table.networks_grid([]).rows]
    fcn = next(row for row in line if row["experiment"] == "fcn8s_vgg16_voc")
    assert fcn["published_test"]["miou"] == 62.2
    assert fcn["state"] == "not run" or fcn["measured"]


def test_runs_are_tabulated_and_an_unevaluated_one_is_named(tmp_path):
    small_run(tmp_path / "run", "mine")
    assert "| mine" in table.as_markdown([tmp_path / "run"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no result\.json"):
        table.as_markdown([tmp_path / "empty"])


def test_readme_section_is_written_between_the_markers():
    text = f"# Title\n\n{table.BEGIN}\nold | numbers\n{table.END}\n\nrest\n"
    new = table.render_readme(text, [])
    assert new.startswith("# Title\n\n<!-- table:begin -->\n| family")
    assert new.endswith("<!-- table:end -->\n\nrest\n")
    assert "old" not in new
    assert table.render_readme(new, []) == new
    with pytest.raises(UserError, match="table:begin"):
        table.render_readme(text.replace(table.BEGIN, ""), [])


def test_committed_records_can_be_read():
    for record in rows.committed_records():
        assert record.revision, f"{record.run}: a committed record names its revision"


def test_the_results_page_is_as_generated():
    text = RESULTS.read_text(encoding="utf-8")
    again = table.render_readme(text, rows.committed_records())
    assert text == again, "run `python scripts/render_readme.py`"


def test_a_network_s_row_takes_a_family_from_its_record():
    record = dataclasses.replace(voc("mynet_voc"), family="MyNet")
    found = cells(table.networks_grid([record]))
    assert found["mynet_voc"]["family"] == "MyNet"
    assert list(found)[-1] == "mynet_voc"
