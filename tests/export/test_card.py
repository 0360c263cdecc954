"""The card of a release says what the record says, and its head is YAML."""

import yaml
from small_record import CLASSES, small_record
from small_task import small_experiment

from seg_jax.data.label_map import LabelMap
from seg_jax.export.card import card

LABELS = LabelMap(CLASSES, ((0, 0, 0), (1, 2, 3), (255, 128, 7)))


def test_the_head_is_what_the_hub_reads():
    text = card(small_experiment(), LABELS, None, license="Apache-2.0")
    empty, head, _ = text.split("---\n", 2)
    assert not empty
    assert yaml.safe_load(head) == {
        "library_name": "seg_jax",
        "pipeline_tag": "image-segmentation",
        "license": "apache-2.0",
        "tags": ["jax", "semantic-segmentation", "small"],
    }


def test_scores_provenance_preprocessing_labels_and_license_are_there():
    record = small_record()
    text = card(small_experiment(), LABELS, record, license="mit")
    for expected in (
        f"{100 * record.metrics['mean_iou']:.1f}",
        f"{100 * record.metrics['per_class_iou']['disc']:.1f}",
        record.data.description,
        record.revision[:7],
        record.command,
        "jax 0.10.2",
        "2026-11-22",
    ):
        assert expected in text, expected
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["red", "100", "50"] in cells  # mean and divisor of the small experiment
    assert ["2", "bar &lt;b&gt;", "#ff8007"] in cells
    assert "mit: of the weights" in text
    assert "whole image, sides padded to multiples of 16 px. Then (image - mean)" in text


def test_without_a_record_the_card_says_so():
    text = card(
        small_experiment(), LABELS, None, license="see their page", name="theirs", origin="By them."
    )
    assert 'license: "other"' in text
    assert "\nBy them.\n" in text
    assert "# theirs\n" in text
    assert "Not evaluated" in text
