"""The table of CRF measurements."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from seg_jax import metrics
from seg_jax.checks import UserError
from seg_jax.report import crf_table, table
from seg_jax.results import Split, provenance
from seg_jax.results.record import counts_of

README = Path(__file__).parents[2] / "seg_jax" / "kernels" / "crf" / "README.md"


@pytest.fixture
def measurement(rng):
    label = np.zeros((30, 40), np.uint8)
    label[8:20, 10:30] = 1
    right, wrong = label.copy(), np.roll(label, 3, 1)
    rows = [
        crf_table.Row(
            crf, how, by, seconds, counts_of(metrics.of_image(label, found, "ab", (2, 5, 20)))
        )
        for crf, how, by, seconds, found in (
            ("", "", "", None, wrong),
            ("deeplab_v1_largefov", "after", "host", 0.123, right),
        )
    ]
    return crf_table.Measurement(
        weights="weights_of_someone",
        cutting="whole image",
        data=Split("voc2012-part", "val", 7, "voc2012-part val: 7 of 1449 images", "0" * 64),
        pictures=3,
        classes=("a", "b"),
        rows=tuple(rows),
        **provenance.of_this_process(),
    )


def test_every_cell_is_divided_from_the_counts(measurement):
    lines = crf_table.markdown([measurement]).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:4]]
    found = {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}
    # 12 x 20 pixels moved by 3: 204 of them stay, 36 are missed and 36 added, of 1200.
    mean = 100 * (204 / 276 + (1200 - 276) / (1200 - 204)) / 2
    assert found["none"]["mIoU"] == f"{mean:.2f}"
    assert found["none"]["pixel acc."] == "94.00"  # 72 wrong
    assert found["none"]["s per image"] == "–"
    assert float(found["none"]["trimap 2 px"]) < mean
    refined = found["deeplab_v1_largefov"]
    assert refined["mIoU"] == refined["trimap 2 px"] == refined["boundary F1"] == "100.00"
    assert (refined["normalised"], refined["implementation"]) == ("after", "lattice_numba")
    assert refined["s per image"] == "0.12"
    assert "3 images of voc2012-part val: 7 of 1449 images" in lines[-1]


def test_a_file_keeps_what_it_is_given_and_replaces_what_is_measured_again(measurement, tmp_path):
    path = tmp_path / "worth.json"
    assert crf_table.load(path) == ()
    other = dataclasses.replace(measurement, pictures=7)
    again = dataclasses.replace(measurement, date="2030-01-01")
    for one in (measurement, other, again):
        crf_table.save(path, one)
    assert crf_table.load(path) == (other, again)
    path.write_text(path.read_text().replace('"pictures": 7', '"pictures": "7"'))
    with pytest.raises(UserError, match=r"worth.json: \[0\].pictures should be int"):
        crf_table.load(path)
    path.write_text(json.dumps(1)[:-1] + "{")
    with pytest.raises(UserError, match="is not JSON"):
        crf_table.load(path)


def test_measurements_of_the_same_probabilities_share_a_table(measurement, tmp_path):
    none, former = measurement.rows
    exact = dataclasses.replace(former, implementation="exact", seconds=9.0)
    later = dataclasses.replace(measurement, rows=(none, exact), date="2030-01-01")
    path = tmp_path / "worth.json"
    for one in (measurement, later):
        crf_table.save(path, one)
    assert crf_table.load(path) == (measurement, later)  # another CRF does not replace the first
    text = crf_table.markdown(crf_table.load(path))
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| ")][2:]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["none", "–", "–"],
        ["deeplab_v1_largefov", "after", "lattice_numba"],
        ["deeplab_v1_largefov", "after", "exact"],
    ]
    assert "2030-01-01" in text and measurement.date[:10] in text
    other = dataclasses.replace(
        later, rows=(dataclasses.replace(none, counts=former.counts), exact)
    )
    with pytest.raises(ValueError, match="do not agree on the scores without a CRF"):
        crf_table.markdown([measurement, other])


def test_a_former_name_of_an_implementation_is_the_same_implementation(measurement, tmp_path):
    none, former = measurement.rows
    assert former.implementation == "host"
    renamed = dataclasses.replace(former, implementation="lattice_numba", seconds=7.0)
    again = dataclasses.replace(measurement, rows=(none, renamed))
    text = crf_table.markdown([measurement, again])
    assert re.findall(r"deeplab_v1_largefov .* (\S+) \|\n", text) == ["7.00"]
    assert not re.search(r"\bhost\b", text)
    for one in (measurement, again):
        crf_table.save(tmp_path / "worth.json", one)
    assert crf_table.load(tmp_path / "worth.json") == (again,)


def test_readme_is_as_generated():
    text = README.read_text(encoding="utf-8")
    again = table.write_section(text, crf_table.MARKERS, crf_table.markdown(crf_table.committed()))
    assert text == again, "run `python scripts/render_readme.py`"


def test_committed_measurements_name_their_revision():
    assert crf_table.committed()
    for found in crf_table.committed():
        assert found.revision
        assert not found.rows[0].crf  # the first row is without a CRF
