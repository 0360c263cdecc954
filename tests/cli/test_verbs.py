"""The command line from end to end, on an architecture that stands in two files elsewhere."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import run
from PIL import Image

from seg_jax import __main__ as cli
from seg_jax.data.synthetic import dataset
from seg_jax.kernels.crf import presets
from seg_jax.reproduce import plan

NAME = "two_layers_synthetic"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "synthetic_voc"
    dataset.write(root, train=8, val=5, seed=3)
    return root


@pytest.fixture
def at_home(pictures, tmp_path, monkeypatch, someone_elses):
    """A folder to work in, the data set where it is looked for, no cache in the user's home."""
    monkeypatch.setenv("SEG_JAX_DATA", str(pictures.parent))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_usage(capsys):
    assert run(capsys)[0] == 2
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f"  {verb} " in out for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "error: verb: unknown name 'trian'; did you mean train?"),
        (["show", "fcn8s_vgg16_vok"], "error: experiment: unknown name 'fcn8s_vgg16_vok'; did you"),
        (["evaluate", "nowhere"], "error: nowhere is no run folder"),
        (["reproduce", "quik"], "error: suite: unknown name 'quik'; did you mean quick?"),
        (["sweep", NAME], "error: --space is missing"),
        (["sweep", NAME, "--space", "experiments.sweeps:poly"], "did you mean poly_lr"),
        (["train", NAME, "--data.root", "nowhere", "--data.dataset", "voc2012"], "no folder"),
        (["train", "unet_synthetic", "--model.padding", "valid"], "nearest that do: 92, 100"),
        (["data", "check", "nowhere"], "nowhere"),
        (["weights", "relaese", "run"], "weights: unknown name 'relaese'; did you mean release"),
        (["fit", "nowhere"], "nowhere: no such folder, or an empty one"),
        (["fit", ".", "--network", "deeplab_v5"], "unknown name 'deeplab_v5'; did you"),
        (["fit", ".", "--backbone", "vgg19"], "--backbone vgg19: unknown name 'vgg19'"),
        (["weights", "release", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(capsys, at_home, args, message):
    code, _, err = run(capsys, *args)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(cli.checks.UserError):
        cli.main(["--debug", "show", "fcn8s_vgg16_vok"])


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (["--train.stepz", "3"], ["--train.stepz", "--train.steps INT"]),
        (["--train.batch-size", "0"], ["batch_size must be positive, got 0"]),
        (["--data.augmentation.flip", "1.5"], ["flip must lie in [0, 1], got 1.5"]),
    ],
)
def test_a_wrong_field_or_value_is_named(capsys, at_home, args, messages):
    code, _, err = run(capsys, "train", NAME, *args)
    assert code == 2
    assert all(message in err for message in messages)


def test_list_and_show(capsys, at_home):
    code, out, _ = run(capsys, "list", "--json")
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 0
    assert found[NAME]["parameters"] == (3 * 9 * 16 + 16) + (16 * 8 + 8)
    assert found["fcn8s_vgg16_voc"]["parameters"] == 134_362_751
    assert {"name", "family", "parameters", "published", "evidence"} <= set(found[NAME])

    code, out, _ = run(capsys, "show", NAME, "--model.width", "0.5", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["config"]["model"]["width"] == 0.5
    assert shown["parameters"] == (3 * 9 * 8 + 8) + (8 * 8 + 8)
    assert shown["multiply_adds"] == 32 * 32 * (3 * 9 * 8 + 8 * 8)

    code, out, _ = run(capsys, "show", NAME)
    assert code == 0
    assert "conv1" in out and "train.batch_size = 4" in out


def test_train_evaluate_predict_tabulate(capsys, at_home, pictures):
    train = ("train", NAME, "--train.steps", "3", "--train.log-every", "1", "--workdir", "run")
    code, out, _ = run(capsys, *train)
    assert code == 0
    assert "synthetic_voc train: 8 images" in out
    assert (at_home / "run" / "config.json").exists()

    code, out, _ = run(capsys, *train)
    assert code == 0
    assert "is finished (step 3): nothing to do" in out
    assert out.endswith("next: python -m seg_jax evaluate run\n")

    code, _, err = run(capsys, *train, "--optim.base-lr", "0.5")
    assert code == 2
    assert "optim.base_lr was 0.01, is 0.5" in err

    code, out, err = run(capsys, "evaluate", "run", "--json", "--worst", "2")
    record = json.loads(out)
    assert_worst_first(at_home / "run" / "predictions", record.pop("worst"), 2)
    assert "run/report.html" in err and "next: python -m seg_jax predict run" in err
    assert code == 0
    assert record["experiment"] == NAME
    assert record["data"]["images"] == 5
    assert np.sum(record["counts"]["confusion"]) == valid_pixels(pictures)
    assert record["command"] == "python -m seg_jax evaluate run --json --worst 2"

    by = ("evaluate", "run", "--protocol=scales", "--evaluation.flip", "--json")
    code, out, _ = run(capsys, *by)
    assert code == 0
    assert json.loads(out)["cutting"].startswith("scales_flip: whole image, ")
    assert len(list((at_home / "run").glob("result_scales_flip_*.json"))) == 1
    code, out, _ = run(capsys, "evaluate", "--help")
    assert code == 0 and "sliding473_scales" in out

    picture = next((pictures / "VOC2012" / "JPEGImages").glob("*_val_*.jpg"))
    (at_home / "broken.jpg").write_bytes(picture.read_bytes()[:500])
    code, out, err = run(capsys, "predict", "run", picture, "broken.jpg", "--out", "out")
    assert code == 2
    assert out == "1 of 2 images predicted into out, 1 failed\n"
    assert err.strip().splitlines()[-1].startswith("broken.jpg: ")
    with Image.open(at_home / "out" / f"{picture.stem}.png") as label, Image.open(picture) as image:
        assert label.mode == "P" and label.size == image.size

    words = ("--palette", "safe", "--evaluation.scales", "1", "0.5")
    assert run(capsys, "predict", "run", picture, "--out", "scaled", *words)[0] == 0
    with Image.open(at_home / "scaled" / f"{picture.stem}.png") as label:
        assert label.getpalette()[3:9] == [230, 159, 0, 86, 180, 233]  # Okabe and Ito's
    code, _, err = run(capsys, "predict", "run", picture, "--out", "x", "--evaluation.scalse", "1")
    assert code == 2 and "scales" in err

    code, out, _ = run(capsys, "report", "run", "run", "--out", "two.html", "--palette", "voc")
    assert code == 0 and (at_home / "two.html").as_uri() in out
    assert (at_home / "two.html").read_text().count("<figure>") == 6 * 5  # 5 images of val

    code, out, _ = run(capsys, "weights", "release", "run", "--license", "mit")
    assert (code, out) == (0, f"wrote {Path('run', 'release')}\n")
    code, out, _ = run(capsys, "predict", "run/release", picture, "--out", "out2")
    assert code == 0
    for name in (f"{picture.stem}.png", f"{picture.stem}_overlay.png"):  # names and colours, too
        assert (at_home / "out2" / name).read_bytes() == (at_home / "out" / name).read_bytes()
    same = [record, *json.loads(run(capsys, "table", "run/release", "--json")[1])["measurements"]]
    assert same[0]["metrics"] == same[1]["metrics"]

    code, out, _ = run(capsys, "table", "run", "--json")
    assert code == 0
    assert NAME in out


def assert_worst_first(folder, worst, number):
    """Compare with the mean IoU of each picture by sets of pixels."""
    expected = {}
    for path in folder.glob("*.truth.png"):
        name = path.name.removesuffix(".truth.png")
        truth, label = read(path), read(folder / f"{name}.prediction.png")
        label[truth == 255] = 255
        iou = {
            int(k): np.sum((truth == k) & (label == k)) / np.sum((truth == k) | (label == k))
            for k in {*np.unique(truth), *np.unique(label)} - {255}
        }
        expected[name] = sum(iou.values()) / len(iou)
    assert len(expected) == 5  # all of val
    order = sorted(expected, key=expected.get)[:number]
    assert [entry["image"] for entry in worst] == order
    for entry in worst:
        assert entry["mean_iou"] == pytest.approx(expected[entry["image"]])
        assert sum(entry["per_class_iou"].values()) / len(entry["per_class_iou"]) == pytest.approx(
            entry["mean_iou"]
        )


def valid_pixels(pictures):
    masks = (pictures / "VOC2012" / "SegmentationClass").glob("*_val_*.png")
    return sum(int(np.sum(read(mask) != 255)) for mask in masks)


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def test_reproduce_writes_the_table_and_reuses_what_is_done(capsys, at_home):
    code, out, _ = run(capsys, "reproduce", "theirs", "--workdir", "runs")
    assert code == 0
    assert "[1/1] two_layers_synthetic" in out
    table = (at_home / "runs" / "table.md").read_text()
    assert NAME in table
    page = (at_home / "runs" / "report.html").read_text()
    assert NAME in page and "data:image/png;base64," in page

    record = (at_home / "runs" / NAME / "result.json").read_bytes()
    code, out, _ = run(capsys, "reproduce", "theirs", "--workdir", "runs")
    assert code == 0
    assert "reusing" in out
    assert (at_home / "runs" / NAME / "result.json").read_bytes() == record


@pytest.mark.slow
def test_reproduce_compares_networks_of_one_recipe(capsys, at_home, monkeypatch):
    crf = {"crf": presets.get("deeplab_v2_script")}
    refined = plan.Step("CRF", "two_layers_synthetic", crf)
    monkeypatch.setattr(plan, "refined", lambda suite: (refined,))
    whole = (plan.Step("narrow", "two_layers_narrow_synthetic"), refined._replace(evaluation={}))
    monkeypatch.setattr(plan, "waterfall", lambda suite: (*whole, refined))
    args = ("reproduce", "pair", "--workdir", "runs", "--seeds", "2")
    code, out, _ = run(capsys, *args)
    assert code == 0
    order = ["two_layers_synthetic", "two_layers_narrow_synthetic"]
    order += [f"{name}_seed1" for name in order]
    places = [out.index(f"[{number}/4] {name}\n") for number, name in enumerate(order, 1)]
    assert places == sorted(places)  # every experiment once before any has its second seed
    page = (at_home / "runs" / "comparison.html").read_text()
    for heading in ("Intervals", "Differences", "Where they differ most", "Which classes"):
        assert f"<h2>{heading}" in page
    scores = [
        json.loads((at_home / "runs" / name / "result.json").read_text())["metrics"]["mean_iou"]
        for name in order[::2]
    ]
    assert f"{50 * sum(scores):.1f} ± {100 * np.std(scores, ddof=1):.1f}" in page
    # The same by `evaluate`, whose record says which file it is.
    code, out, _ = run(
        capsys, "evaluate", "runs/two_layers_synthetic", "--crf", "deeplab_v2_script"
    )
    assert code == 0
    (record,) = (at_home / "runs" / "two_layers_synthetic").glob("result_*.json")
    found = json.loads(record.read_text())
    with_crf = found["metrics"]["mean_iou"]
    assert "deeplab_v2_script" in found["cutting"]
    cells = re.search(r"<h2>With a dense CRF.*?<td>.*?</tr>", page, re.DOTALL)[0]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", cells)
    before, change = 100 * scores[0], 100 * (with_crf - scores[0])
    assert cells[1:4] == [f"{before:.1f}", f"{100 * with_crf:.1f}", f"{change:+.1f}"]
    steps = page[page.index("<h2>Step by step") :]
    assert f"CRF: {change:+.1f}, " in steps
    # The same charts, each a picture of its own: of both seeds, and of the first.
    shown = {"intervals": f"{50 * sum(scores):.1f}", "crf": cells[2], "waterfall": cells[3]}
    for name, value in shown.items():
        drawn = ElementTree.parse(at_home / "runs" / f"{name}.svg").getroot()
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert value in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")], name
    code, out, _ = run(capsys, *args, "--estimate")
    assert (code, out) == (0, "nothing is left to do\n")
    code, out, _ = run(capsys, *args, "--estimate", "--seeds", "3")
    assert code == 0
    assert "two_layers_synthetic_seed2" in out and "measured in 6 of two_layers_synthetic" in out
    assert "evaluations with a CRF or several scales are not counted" in out


def test_sweep_runs_trials_and_prints_the_best_as_a_command(capsys, at_home):
    options = ("--space", "experiments.sweeps:learning_rate", "--sampler", "random")
    options = (*options, "--trials", "2", "--train.steps", "2", "--workdir", "sweep")
    few = ("--search-split", "0.1")  # of these 8 images: none
    code, _, err = run(capsys, "sweep", NAME, *options, *few)
    assert code == 2 and "--search-split 0" in err and not (at_home / "sweep").exists()
    code, out, _ = run(capsys, "sweep", NAME, *options, "--search-split", "0")
    assert code == 0
    assert f"python -m seg_jax train {NAME}" in out and "--optim.base-lr" in out
    records = sorted((at_home / "sweep").glob("trial-*/result.json"))
    assert len(records) == 2
    code, out, _ = run(capsys, "sweep", "report", "sweep")
    page = (at_home / "sweep" / "report.html").read_text()
    assert code == 0 and "report.html" in out
    record = json.loads(records[0].read_text())
    assert record["data"]["description"] in page and record["cutting"] in page


@pytest.mark.slow
def test_data_check_names_what_is_wrong(capsys, tmp_path):
    code, out, _ = run(capsys, "data", "synthesize", tmp_path, "--seed", "3")
    assert code == 0
    home = tmp_path / "VOC2012"
    mask = sorted((home / "SegmentationClass").iterdir())[0]
    ids = read(mask)
    ids[:2] = 150
    Image.fromarray(ids).save(mask)
    image = sorted((home / "JPEGImages").iterdir())[1]
    image.write_bytes(image.read_bytes()[:300])
    code, out, _ = run(capsys, "data", "check", tmp_path, "--dataset", "voc2012", "--json")
    report = json.loads(out)
    assert code == 2
    assert mask.name in str(report) and "150" in str(report) and image.name in str(report)
