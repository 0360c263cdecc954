"""The README's table: a dozen rows; scores on other images are marked as such."""

import dataclasses
from pathlib import Path

from small_record import made_up_scores, small_record

from seg_jax import experiment, papers
from seg_jax.report import front_table, rows, table
from seg_jax.results.record import PublishedWeights

README = Path(__file__).parents[2] / "README.md"


def cells(records=(), quick=()):
    found = front_table.front_grid(list(records), list(quick)).rows
    return [
        dict(zip(("family", "paper", "published", "here", "what"), row, strict=True))
        for row in found
    ]


def of_family(family, name, **changes):
    return dataclasses.replace(small_record(name, **changes), family=family)


def test_a_family_without_records_says_so_beside_its_best_published_figure():
    found = cells()
    assert [row["family"] for row in found] == list(papers.FAMILIES)
    assert {row["here"] for row in found} == {table.NOT_RUN}
    by_family = {row["family"]: row for row in found}
    assert by_family["DeepLab v3+"]["published"] == "79.79, VOC 2012 val"
    assert by_family["DeepLab v3"]["published"] == "77.21, VOC 2012 val"
    assert by_family["FCN"]["published"] == "65.5, VOC 2011 seg11valid"
    assert by_family["GCN"]["paper"] == "Peng et al., CVPR 2017, arXiv:1703.02719"


def test_synthetic_images_are_marked_and_an_official_record_replaces_them():
    quick = of_family("U-Net", "unet_synthetic", data="synthetic_voc", seed=1)
    other = of_family("U-Net", "unet_mine", data="memory", seed=2)  # on other images: never shown
    (row,) = [row for row in cells(quick=[quick, other]) if row["family"] == "U-Net"]
    assert row["here"] == f"{100 * made_up_scores(1).mean_iou:.1f}"
    assert row["what"] == "drawn images; a reduced network after 600 steps"
    official = of_family("U-Net", "unet_voc", data="voc2012", seed=3)
    (row,) = [row for row in cells([official], [quick]) if row["family"] == "U-Net"]
    assert row["here"] == f"{100 * made_up_scores(3).mean_iou:.1f}"
    assert row["what"].startswith("unet_voc, trained here: voc2012 val")


def test_published_weights_have_rows_of_their_own():
    weights = PublishedWeights(name="theirs", trained_on="COCO", saw_val="no")
    record = of_family("GCN", "gcn_resnet152_voc", data="voc2012")
    record = dataclasses.replace(record, weights=weights)
    ours, theirs = [row for row in cells([record]) if row["family"] == "GCN"]
    assert ours["here"] == table.NOT_RUN
    assert theirs["published"] == "74.7, VOC 2012 val"
    assert theirs["what"] == "theirs, our forward pass: voc2012 val: 3 images"


def test_readme_is_as_generated():
    text = README.read_text(encoding="utf-8")
    grid = front_table.front_grid(rows.committed_records(), front_table.quick_records())
    again = table.write_section(text, front_table.MARKERS, grid.as_markdown())
    assert text == again, "run `python scripts/render_readme.py`"
    assert len(grid.rows) <= 12


def test_committed_quick_records_are_of_registered_families():
    found = front_table.quick_records()
    assert found
    for record in found:
        assert record.revision and record.experiment in experiment.suite("quick")
        assert record.data.name == front_table.QUICK_DATA
