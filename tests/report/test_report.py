"""The page is self-contained, shows a run's images, and lets no text become markup."""

import base64
import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from small_record import small_record, small_run

from seg_jax import report, results
from seg_jax.checks import UserError
from seg_jax.data import visualize
from seg_jax.report import curves, html, images, rows
from seg_jax.report.images import Run
from seg_jax.types import voc_palette

ALTS = ["input", "truth", "one", "errors", "two", "errors"]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.links, self.text, self.open = [], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "img", "circle", "path", "line", "br", "i"):
            self.open.append(tag)
        self.links += [v for k, v in attributes.items() if k in ("href", "src", "srcset", "data")]
        if tag == "img":
            self.images.append(attributes)

    def handle_endtag(self, tag):
        if tag not in ("path", "line", "circle", "i"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def folders(tmp_path):
    names = ("one", "two")
    for seed, name in enumerate(names):
        small_run(tmp_path / "runs" / name, name, seed=seed)
    return [tmp_path / "runs" / name for name in names]


def test_writes_the_table_and_a_page_and_returns_the_table(folders, tmp_path):
    text = report.write(folders, tmp_path / "out", title="Suite quick")
    assert "| one" in text
    assert text in (tmp_path / "out" / "table.md").read_text()
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert not page.open  # every element is closed
    assert "Suite quick" in page.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "table.md"]


def test_the_page_makes_no_request(folders, tmp_path):
    report.write(folders, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert all(link.startswith("data:image/") for link in page.links)
    assert not re.search(r"url\(|@import|fetch\(|https?:", text)


def test_images_of_all_runs_are_side_by_side(folders, tmp_path):
    report.write(folders, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert [image["alt"] for image in page.images] == [*ALTS, *ALTS]
    first = (folders[0] / "predictions" / "image0.prediction.png").read_bytes()
    source = f"data:image/png;base64,{base64.b64encode(first).decode()}"
    shown = next(image for image in page.images if image["src"] == source)
    assert (shown["alt"], shown["width"], shown["height"]) == ("one", "16", "12")
    worst_first = [float(x) for x in re.findall(r"mean IoU ([\d.]+)", page.text)]
    assert min(worst_first[:2]) <= min(worst_first[2:4])
    assert "% of pixels right" in page.text
    assert "void" in page.text


def test_the_share_of_right_pixels_leaves_void_out():
    truth = np.array([[0, 1, 255, 255]], np.uint8)
    found = images._score(truth, np.zeros_like(truth), 2)
    assert found == ("50.0 % of pixels right, mean IoU 25.0", 0.25)  # 1/2 and 0
    errors = images._errors(truth, np.zeros_like(truth))
    np.testing.assert_array_equal(errors, [[0, 1, 2, 2]])


def test_no_text_becomes_markup(tmp_path):
    hostile = '<script>alert("x")</script>'
    small_run(tmp_path / "run")
    hostile_texts = dict.fromkeys(("experiment", "run", "family", "command", "cutting"), hostile)
    record = small_record(**hostile_texts)
    results.save(record, tmp_path / "run" / "result.json")
    report.write([tmp_path / "run"], tmp_path, title=hostile)
    page = Page((tmp_path / "report.html").read_text())
    assert page.tags.count("script") == 1  # the page's own
    assert page.tags.count("b") == 0  # a class is called "bar <b>"
    assert hostile in page.text
    assert "bar <b>" in page.text


def test_curves_and_bars_show_the_records_numbers(folders, tmp_path):
    report.write(folders, tmp_path)
    text = (tmp_path / "report.html").read_text()
    metrics = results.load(folders[0]).metrics
    for name, value in metrics["per_class_iou"].items():
        assert f'style="--share:{100 * value:.1f}%">{100 * value:.1f}</td>' in text, name
    for value in metrics["trimap_mean_iou"].values():
        assert f"<title>one: {100 * value:.4g}</title>" in text


def test_runs_with_the_same_loss_have_the_same_y_axis(folders, tmp_path):
    def highest_tick(text):
        charts = text.split("Training loss</h2>")[1].split("<h2>")[0].split("<svg ")[1:]
        return [max(float(x) for x in re.findall(r'="end">([\d.]+)<', chart)) for chart in charts]

    line = json.dumps({"kind": "train", "step": 9, "loss": 70.0}) + "\n"
    with (folders[1] / "metrics.jsonl").open("a") as log:
        log.write(line)
    report.write(folders, tmp_path)
    one, two = highest_tick((tmp_path / "report.html").read_text())
    assert one == two >= 70
    record = results.load(folders[1])
    config = {**record.config, "loss": {"name": "another"}}
    results.save(dataclasses.replace(record, config=config), folders[1] / "result.json")
    report.write(folders, tmp_path)
    one, two = highest_tick((tmp_path / "report.html").read_text())
    assert one < 70 <= two


def test_runs_of_one_experiment_are_told_apart_by_their_folders(folders, tmp_path):
    """In every heading, legend and table; runs under another protocol say so at their curves."""
    for folder in folders:
        record = dataclasses.replace(results.load(folder), experiment="same")
        results.save(record, folder / "result.json")
    report.write(folders, tmp_path)
    text = (tmp_path / "report.html").read_text()
    for name in ("one", "two"):
        label = f"same, run {name}"
        for where in ("td>{}<", "th>{}<", "h3>{}<", "/svg>{}<", 'alt="{}"', "summary>{}:"):
            assert where.format(label) in text, (where, label)
    assert text.count(rows.measured_on(record)) == 1  # in the introduction
    other = dataclasses.replace(record, cutting="flipped: by hand")
    results.save(other, folder / "result.json")
    report.write(folders, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.count("protocol flipped") == 2  # there, and below the heading of its loss


def test_labels_of_runs_that_share_all_names_are_numbered():
    records = [small_record("a"), small_record("a"), small_record("b")]
    assert rows.labels(records) == ["a, run a (1)", "a, run a (2)", "b"]


def test_losses_are_thinned_and_keep_the_last(tmp_path):
    lines = [{"kind": "train", "step": step, "loss": 1 / step} for step in range(1, 2001)]
    lines += [{"kind": "evaluate", "step": 2000, "mean_iou": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves.read(tmp_path, "train", "loss")
    assert 200 < len(found) <= 300
    assert found[-1] == (2000, 1 / 2000)
    assert curves.read(tmp_path / "nowhere", "train", "loss") == []


def test_a_run_without_images_or_log_is_reported_without_them(tmp_path):
    (tmp_path / "run").mkdir()
    results.save(small_record(), tmp_path / "run" / "result.json")
    report.write([tmp_path / "run"], tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "Scores" in page.text
    assert "Images" not in page.text
    assert "Training loss" not in page.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("image0.prediction.png", b"no image", r"image0\.prediction\.png: is no palette PNG"),
        ("image0.truth.png", b"", r"image0\.truth\.png: is no palette PNG"),
        ("image0.input.jpg", b"secret text", r"image0\.input\.jpg: cannot be decoded"),
    ],
)
def test_a_broken_image_is_named(tmp_path, name, content, message):
    small_run(tmp_path / "run")
    (tmp_path / "run" / "predictions" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        report.write([tmp_path / "run"], tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_value_that_is_no_class_is_named(tmp_path):
    small_run(tmp_path / "run")
    path = tmp_path / "run" / "predictions" / "image0.prediction.png"
    visualize.label_image(np.full((12, 16), 77, np.uint8), voc_palette()).save(path)
    with pytest.raises(UserError, match=r"prediction\.png: holds \[77\], .* 3 classes"):
        report.write([tmp_path / "run"], tmp_path)


@pytest.mark.parametrize("kind", ["prediction.png", "truth.png", "input.jpg"])
def test_a_linked_image_is_refused(folders, tmp_path, kind):
    """A stranger's run must not put a file from elsewhere on this machine into the page."""
    inside, outside = folders[0] / "predictions" / f"image0.{kind}", tmp_path / "private"
    inside.rename(outside)  # a fitting image: only the link is wrong
    inside.symlink_to(outside)
    with pytest.raises(UserError, match=rf"image0\.{kind}: is a link"):
        report.write(folders, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("dangling", [False, True])
def test_a_linked_folder_or_a_dangling_link_is_refused(folders, tmp_path, dangling):
    inside = folders[0] / "predictions"
    if dangling:
        inside = inside / "image9.prediction.png"
        inside.symlink_to(tmp_path / "nowhere")
    else:
        inside.rename(tmp_path / "private")
        inside.symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match=f"{inside.name}: is a link"):
        report.write(folders, tmp_path / "out")


def test_a_pipe_in_the_place_of_an_image_does_not_hang(tmp_path):
    small_run(tmp_path / "run")
    path = tmp_path / "run" / "predictions" / "image0.input.jpg"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"image0\.input\.jpg: not a regular file"):
        report.write([tmp_path / "run"], tmp_path)


def test_a_run_folder_that_the_user_linked_is_read(folders, tmp_path):
    (tmp_path / "mine").symlink_to(folders[0])
    report.write([tmp_path / "mine"], tmp_path)
    assert "image0" in (tmp_path / "report.html").read_text()


def test_names_of_image_files_are_escaped(tmp_path):
    small_run(tmp_path / "run")
    for path in sorted((tmp_path / "run" / "predictions").glob("image0.*")):
        path.rename(path.with_name(path.name.replace("image0", "<b onclick=x>&amp;")))
    report.write([tmp_path / "run"], tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert page.tags.count("b") == 0
    assert "<b onclick=x>&amp;" in page.text


def test_objects_are_compared_by_size():
    records = [small_record(name, seed=seed) for seed, name in enumerate(("one", "two"))]
    runs = [Run(Path("none"), record) for record in records]
    text = html.render(runs, title="t")
    table = text.split("IoU of objects")[1].split("</table>")[0]
    cells = re.findall(r"<tr><td>(\w+)</td>(.*?)</tr>", table)
    assert [name for name, _ in cells] == ["small", "medium", "large"]
    for record, shown in zip(records, re.findall(r">([\d.]+)<", cells[0][1]), strict=True):
        assert shown == f"{100 * record.scores.object_iou[0]:.1f}"
    assert cells[2][1].count("–") == 2  # there are no large ones
