"""`data import`: small exports as the tools write them, read back as the masks that were meant."""

import json
from pathlib import Path

import numpy as np
import pytest
from label_exports import EXPECTED, HEIGHT, SOURCES, WIDTH, coco_json, cvat, image, labelme, runs
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.cli import data as cli_data
from seg_jax.data.imports import coco, colors, layout, recognise
from seg_jax.data.validate import check
from seg_jax.types import IGNORE


@pytest.mark.parametrize("kind", ["labelme", "cvat", "supervisely", "polygon", "runs"])
def test_every_tool_gives_the_same_masks(tmp_path, kind, capsys):
    if kind == "polygon":
        pytest.importorskip("pycocotools")
    source = tmp_path / "source"
    SOURCES[kind](source) if kind in SOURCES else coco_json(source, form=kind)
    assert not cli_data.main(["import", str(source), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "train with --data.dataset folder" in said
    if kind in ("labelme", "cvat"):
        assert "are no areas: left out" in said
    (tmp_path / "out/train.txt").write_text("a\n" if kind != "supervisely" else "ds/a\n")
    found = data.open_source("folder", tmp_path / "out", "train")
    ids = [found.classes.index(name) for name in ("background", "road", "car")]
    assert len(found.classes) == 3
    np.testing.assert_array_equal(found.label(0), np.array(ids)[EXPECTED])
    assert not check.check("folder", tmp_path / "out", ["train"]).problems


def test_roboflow_s_lists_are_kept(tmp_path):
    for folder in ("train", "valid", "test"):
        coco_json(tmp_path / "source", (f"{folder}.jpg",), form="runs", folder=folder)
    layout.write(recognise.read(tmp_path / "source", recognise.Options()), tmp_path / "out")
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert data.open_source("folder", tmp_path / "out", split).ids == (f"{split}/{name}",)


class TestRunLengths:
    def test_compressed_ones_are_pycocotools_s(self, rng):
        coder = pytest.importorskip("pycocotools.mask")
        for _ in range(50):
            mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
            packed = coder.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
            np.testing.assert_array_equal(coco.decode(packed, mask.shape), mask)
            np.testing.assert_array_equal(coco.decode(runs(mask.T), mask.shape), mask)

    @pytest.mark.parametrize(
        "counts", [[5], [-1, 13], [12, 0, 1], "\x00", "o" * 9, 7, None, [1.5, 10.5]]
    )
    def test_others_are_refused(self, counts):
        with pytest.raises(ValueError, match="run lengths"):
            coco.decode(counts, (3, 4))


class TestColors:
    def masks(self, root: Path, table, names=("a", "b"), folders=("images", "masks"), ending=""):
        for name in names:
            image(root / folders[0] / f"{name}.png")
            path = root / folders[1] / f"{name}{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array(table, np.uint8)[EXPECTED]).save(path)
        return root

    @pytest.mark.parametrize(
        ("folders", "ending", "colors_", "classes"),
        [
            (("701_StillsRaw_full", "LabeledApproved_full"), "_L", "camvid", ("Road", "Car")),
            (("leftImg8bit", "gtFine"), "_gtFine_color", "cityscapes", ("road", "car")),
            (("JPEGImages", "SegmentationClass"), "", "voc", ("bicycle", "car")),
        ],
    )
    def test_known_tables(self, tmp_path, folders, ending, colors_, classes):
        table = dict(colors.TABLES[colors_].classes)
        void = colors.TABLES[colors_].void[0]
        used = [void, *(table[name] for name in classes)]
        source = self.masks(tmp_path / "s", used, folders=folders, ending=ending)
        layout.write(recognise.read(source, recognise.Options()), tmp_path / "out")
        found = data.open_source("folder", tmp_path / "out", "train")
        expected = np.full(EXPECTED.shape, IGNORE)
        for value, name in enumerate(classes, start=1):
            expected[value == EXPECTED] = found.classes.index(name)
        np.testing.assert_array_equal(found.label(0), expected)
        assert tuple(found.palette[found.classes.index(classes[0])]) == table[classes[0]]

    def test_colours_are_found_listed_and_named(self, tmp_path, capsys):
        source = self.masks(tmp_path / "s", [(0, 0, 0), (9, 8, 7), (200, 100, 50)])
        assert not cli_data.main(["import", str(source), "--colors", "find"])
        text = capsys.readouterr().out
        share = 100 * np.count_nonzero(EXPECTED == 0) / EXPECTED.size
        assert f"# {share:.3g} % of the pixels, in 2 of 2 masks\nclass0,0,0,0" in text
        (tmp_path / "c.csv").write_text(text.replace("class0", "void"))
        options = recognise.Options(colors=str(tmp_path / "c.csv"))
        layout.write(recognise.read(source, options), tmp_path / "out")
        label = data.open_source("folder", tmp_path / "out", "train").label(0)
        np.testing.assert_array_equal(label == IGNORE, EXPECTED == 0)

    def test_cvat_s_labelmap(self, tmp_path):
        folders = ("JPEGImages", "SegmentationClass")
        source = self.masks(tmp_path, [(0, 0, 0), (9, 8, 7), (1, 1, 1)], folders=folders)
        lines = [
            "# label:color_rgb:parts:actions",
            "background:0,0,0::",
            "road:9,8,7::",
            "car:1,1,1::",
        ]
        (tmp_path / "labelmap.txt").write_text("\n".join(lines))
        found = recognise.read(source, recognise.Options())
        assert found.classes == ("background", "road", "car")
        np.testing.assert_array_equal(found.items[0].label((HEIGHT, WIDTH)), EXPECTED)

    def test_an_unknown_colour_is_an_error_but_for_a_stated_distance(self, tmp_path):
        source = self.masks(tmp_path / "s", [(0, 0, 0), (9, 8, 7), (200, 104, 47)])
        (tmp_path / "c.csv").write_text("name,r,g,b\nsky,0,0,0\nroad,9,8,7\ncar,200,100,50\n")

        def read(**options):
            given = recognise.Options(colors=str(tmp_path / "c.csv"), **options)
            return recognise.read(source, given).items[0].label((HEIGHT, WIDTH))

        pixels = np.count_nonzero(EXPECTED == 2)
        for distance in (0.0, 4.99):
            with pytest.raises(
                UserError, match=rf"a\.png: colours of no class: \(200, 104, 47\) in {pixels} px"
            ):
                read(distance=distance)
        np.testing.assert_array_equal(read(distance=5.0), EXPECTED)
        np.testing.assert_array_equal(read(unknown_void=True) == IGNORE, EXPECTED == 2)
        with pytest.raises(UserError):
            options = recognise.Options(colors=str(tmp_path / "c.csv"))
            layout.write(recognise.read(source, options), tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "s"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("../secret.png", "leads out of the folder"), ("/etc/passwd", "leads out"),
     ("nowhere.png", "is not there"), ("link.png", "a link out of the folder"), ("", "leads out")],
)  # fmt: skip
def test_names_stay_inside_the_source(tmp_path, name, message):
    image(tmp_path / "secret.png")
    path = coco_json(tmp_path / "s", ("a.png",), form="runs")
    (tmp_path / "s/link.png").symlink_to(tmp_path / "secret.png")
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        recognise.read(tmp_path / "s", recognise.Options())


def test_an_xml_with_entities_is_refused(tmp_path):
    root = cvat(tmp_path / "s")
    text = (root / "annotations.xml").read_text()
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotations>'
    (root / "annotations.xml").write_text(text.replace("<annotations>", bomb, 1))
    with pytest.raises(UserError, match="entities, which CVAT does not write"):
        recognise.read(root, recognise.Options())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        layout.write(recognise.read(labelme(tmp_path / "s"), recognise.Options()), tmp_path / "out")
