"""The page of a sweep, its importances, and what records say of the search."""

import dataclasses
import io
import json
import math
import re
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
from small_record import small_record

from seg_jax import experiment, progress
from seg_jax.report import seeds, table
from seg_jax.report import trial_charts as charts
from seg_jax.results import files, load, searched
from seg_jax.search_space import Choice, LogUniform, Space, Uniform, When
from seg_jax.sweep import importance, promote, report, search, storage, watch
from seg_jax.sweep.study import Pruned, Trial

NAME = "unet_synthetic"
SPACE = Space(
    {
        "optim.optimizer": Choice(("sgd", "adamw")),
        "optim.base_lr": LogUniform(1e-4, 1.0),
        "optim.momentum": When("optim.optimizer", {"sgd": Uniform(0.0, 0.99)}),
    }
)


@pytest.fixture
def folder(tmp_path):
    """A sweep of 12 trials: 7 complete, 4 pruned, one failed with an error that is HTML."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / storage.JOURNAL).touch()
    number = iter(range(12))

    def trial(found, run, report_score):
        place = next(number)
        report_score(found.train.steps // 3, 0.1 + 0.01 * place)
        if place == 5:
            raise ValueError("<script>alert(1)</script>")
        if place % 3 == 2 or place == 9:
            raise Pruned
        return 0.3 + 0.01 * place

    search.sweep(
        experiment.get(NAME), SPACE, tmp_path / "sweep", trials=12, run_trial=trial,
        sampler="random", pruner="none", say=lambda line: None,
    )  # fmt: skip
    return tmp_path / "sweep"


def charts_of(page):
    """Return {heading: the drawings below it}, parsed."""
    parts = re.split(r"<h2>(.*?)</h2>", page)[1:]
    return {
        heading: [
            ElementTree.fromstring(text)
            for text in re.findall(r'<svg class="chart".*?</svg>', body, re.DOTALL)
        ]
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def dots(drawing):
    return [float(dot.get("cy")) for dot in drawing.iter("{http://www.w3.org/2000/svg}circle")]


def test_the_page_shows_every_trial_and_the_best_command(folder):
    found = promote.read(folder)
    page_file = folder / "page.html"
    report.write(folder, page_file)
    page = page_file.read_text()
    states = [trial.state for trial in found.trials]
    assert [states.count(s) for s in ("complete", "pruned", "failed")] == [7, 4, 1]
    assert "12 trials ended (7 complete, 4 pruned, 1 failed), 0 running" in page
    assert "synthetic_voc val" in page and "protocol:" in page and "Folder sweep" in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert not re.search(r'(src|href)="?http', page)
    drawn = charts_of(page)
    (history,) = drawn["History"]
    scored = [trial.miou for trial in found.trials if trial.miou is not None]
    assert len(dots(history)) == len(scored) == 11
    # On the page a higher dot is a better trial: the order of heights is that of scores.
    assert sorted(dots(history), reverse=True) == pytest.approx(
        np.interp(
            sorted(scored), [min(scored), max(scored)], [max(dots(history)), min(dots(history))]
        ),
        abs=0.2,
    )
    (lines,) = drawn["Settings side by side"]
    assert len(list(lines.iter("{http://www.w3.org/2000/svg}path"))) == 11
    given = [sum(path in t.values and t.miou is not None for t in found.trials)
             for path in SPACE.fields]  # fmt: skip
    assert [len(dots(drawing)) for drawing in drawn["Each setting"]] == given
    assert 0 < given[2] < 11  # momentum is varied for SGD only
    outcome = search.outcome(found.trials, found.experiment)
    assert outcome.command.replace("'", "&#x27;") in page
    assert "Trained anew" not in page
    assert watch.running_line(folder, "trial-0099", {"optim.base_lr": 0.5}, {33: 0.125}) == (
        "  trial-0099  running   begins       mIoU 12.50 at 33 %  optim.base_lr=0.5"
    )


def test_axes():
    rates = charts.logarithmic("rate", 1e-4, 1.0)
    assert [rates.place(value) for value in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    assert [label for _, label in rates.ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    narrow = charts.logarithmic("rate", 0.02, 0.08)  # without a power of ten within
    assert narrow.ticks == [(0.0, "0.02"), (pytest.approx(1.0), "0.08")]
    assert charts.choices("kind", ["a", "b"]).place("b") == 0.75
    shares = charts.linear("share", [0, 100])
    assert shares.place(50) == 0.5


def test_importances_are_optunas_of_equal_shares():
    """Beside Optuna's PED-ANOVA of a study made by hand; mIoU depends on the rate alone."""
    rng = np.random.default_rng(0)
    space = Space({"optim.base_lr": LogUniform(1e-4, 1.0), "optim.momentum": Uniform(0.0, 0.9)})
    trials, curves = [], {}
    study = optuna.create_study(direction="maximize")
    kinds = {
        "optim.base_lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "optim.momentum": optuna.distributions.FloatDistribution(0.0, 0.9),
    }
    for number in range(40):
        values = {"optim.base_lr": 10 ** rng.uniform(-4, 0), "optim.momentum": rng.uniform(0, 0.9)}
        early = 1 / (1 + (math.log10(values["optim.base_lr"]) + 2) ** 2)
        state = "pruned" if number % 2 else "complete"
        run = f"trial-{number:04d}"
        trials.append(Trial(run, state, values, rng.random(), 1.0))
        curves[run] = {33: early, **({} if number % 2 else {100: rng.random()})}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=kinds, value=early))
    assert importance.common_share(trials, curves) == 33
    found = importance.importances(space, trials, curves, 33)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=5 / 40)
    assert found == pytest.approx(
        optuna.importance.get_param_importances(study, evaluator=evaluator)
    )
    assert list(found) == ["optim.base_lr", "optim.momentum"] and found["optim.base_lr"] > 0.7
    complete = [trial for trial in trials if trial.state == "complete"]
    assert importance.common_share(complete, curves) is None
    assert importance.importances(space, complete[:9], curves, None) == {}


def test_the_record_and_the_tables_say_that_settings_were_searched(tmp_path):
    """Of three seeds, mean and standard deviation; a record without a search is as it was."""
    found = searched.Searched(
        "train:held20", 24, "tpe", {"optim.base_lr": {"low": 1}}, "trial-0007"
    )
    records = []
    for seed in range(3):
        record = small_record("deeplab_v3_resnet101_voc", data="voc2012", seed=seed)
        settings = {**record.config, "train": {**record.config["train"], "seed": seed}}
        records.append(dataclasses.replace(record, config=settings, searched=found))
    (tmp_path / "run").mkdir()
    searched.save(found, tmp_path / "run")
    assert searched.load(tmp_path / "run") == found
    assert searched.load(tmp_path) is None
    files.save(records[0], tmp_path / "run" / files.FILE)
    assert load(tmp_path / "run").searched == found

    scores = [100 * record.metrics["mean_iou"] for record in records]
    spread = f"{np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}"
    said = "chosen among 24 trials by mIoU on train:held20"
    text = table.measurements_markdown(records)
    assert spread in text and f"{said}: optim.base_lr" in text
    row = next(
        row for row in table.networks_grid(records).rows if row[1] == "deeplab_v3_resnet101_voc"
    )
    assert f"{spread} (3 seeds) ({said})" in row
    own = small_record("deeplab_v3_resnet101_voc", data="voc2012", seed=9)
    assert seeds.grid([own]) is None
    mixed = table.networks_grid([*records, own]).rows
    row = next(row for row in mixed if row[1] == "deeplab_v3_resnet101_voc")
    assert f"{100 * own.metrics['mean_iou']:.1f}" in row  # the recipe's own settings come first


def test_lines_of_running_trials_are_drawn_anew_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "12")
    block = progress.Block()
    block.draw(["one \x1b[31m", "a line that is too long"])
    block.draw(["two"])
    shown = "one \\x1b[31\na line that\n"  # escaped, cut to the width
    assert terminal.getvalue() == f"{shown}\x1b[2F\x1b[Jtwo\n"
    monkeypatch.setattr("sys.stderr", file := io.StringIO())
    progress.Block().draw(["one"])
    assert file.getvalue() == ""


def test_what_ended_is_said_once_and_running_trials_have_step_and_score(folder, capsys):
    look = watch.watcher(folder, "", 14)
    look()
    assert capsys.readouterr().out == ""  # of before: told already
    (folder / "trial-0099").mkdir()
    lines = [{"kind": "train", "step": step, "loss": 1.5} for step in (20, 40)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "trial-0099" / "metrics.jsonl").write_text(text + '{"kind": "train", "st')
    line = watch.running_line(folder, "trial-0099", {"optim.base_lr": 0.5}, {33: 0.125})
    assert line == (
        "  trial-0099  running   step     40  loss 1.5  mIoU 12.50 at 33 %  optim.base_lr=0.5"
    )
    search.sweep(
        experiment.get(NAME), SPACE, folder, trials=13, run_trial=lambda *_: 0.75,
        sampler="random", pruner="none", say=lambda line: None,
    )  # fmt: skip
    look()
    look()
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("[13/14] trial-0013  complete  mIoU   75.00")
