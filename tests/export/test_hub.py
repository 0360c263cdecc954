"""Releases made of runs, and on their way to the hub and back: a local stand-in of its interface.

The stand-in is asked by the real client, huggingface_hub, over HTTP; the large file takes Git LFS's
way, since Xet's storage cannot be stood in for.
"""

import hub_stand_in
import huggingface_hub.constants
import jax
import numpy as np
import pytest
from small_record import small_record
from small_task import CLASSES, small_experiment, small_variables

from seg_jax import checks, pretrained, results
from seg_jax.data.label_map import LabelMap
from seg_jax.export import hub as publish
from seg_jax.export import release as export_release
from seg_jax.pretrained import release

REPO = "someone/small-net"
LABELS = LabelMap(CLASSES, ((0, 0, 0), (1, 2, 3), (255, 128, 7)))


@pytest.fixture
def folder(tmp_path):
    """A release with a record."""
    experiment = small_experiment()
    variables = {"batch_stats": {}, **small_variables(experiment.model)}
    loaded = pretrained.Pretrained(experiment, variables, "", LABELS)
    text = '---\nlicense: "mit"\n---\n\n# Small\n'
    path = tmp_path / "release"
    release.save(loaded, path, license="mit", card=text, record=b"{}")
    return path


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with hub_stand_in.running() as server:
        yield server


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def test_to_the_hub_and_back(hub, folder, tmp_path):
    url = publish.push(folder, REPO, private=True, endpoint=hub.endpoint)
    assert url == f"{hub.endpoint}/{REPO}/commit/{hub.commit(REPO)}"
    assert hub.private[REPO]
    there = hub.repositories[REPO]
    assert there == contents(folder) | {"README.md": (folder / "card.md").read_bytes()}
    assert sum(line.startswith("PUT /blob/") for line in hub.log) == 1  # the weights, by LFS

    publish.pull(REPO, tmp_path / "back", endpoint=hub.endpoint)
    assert contents(tmp_path / "back") == contents(folder)
    assert pretrained.load(tmp_path / "back").experiment == pretrained.load(folder).experiment


def test_a_record_of_earlier_weights_does_not_stay(hub, folder, tmp_path):
    publish.push(folder, REPO, endpoint=hub.endpoint)
    publish.pull(REPO, tmp_path / "back", endpoint=hub.endpoint)
    (folder / "result.json").unlink()
    publish.push(folder, REPO, endpoint=hub.endpoint)
    assert "result.json" not in hub.repositories[REPO]
    publish.pull(REPO, tmp_path / "back", endpoint=hub.endpoint)
    assert contents(tmp_path / "back") == contents(folder)


def test_nothing_but_a_release_s_files_is_fetched(hub, folder, tmp_path):
    publish.push(folder, REPO, endpoint=hub.endpoint)
    hub.repositories[REPO]["seg_jax.py"] = b"raise SystemExit"
    publish.pull(REPO, tmp_path / "back", endpoint=hub.endpoint)
    assert contents(tmp_path / "back") == contents(folder)


def test_damage_on_the_hub_is_found(hub, folder, tmp_path):
    publish.push(folder, REPO, endpoint=hub.endpoint)
    hub.repositories[REPO]["model.safetensors"] += b"\0"
    with pytest.raises(checks.UserError, match=r"model\.safetensors: SHA-256 is .* damaged"):
        publish.pull(REPO, tmp_path / "back", endpoint=hub.endpoint)


def test_damage_here_is_not_published(hub, folder):
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(checks.UserError, match="damaged"):
        publish.push(folder, REPO, endpoint=hub.endpoint)
    assert not hub.log


def test_what_the_hub_refuses_is_one_line_that_names_the_repository(
    hub, folder, tmp_path, monkeypatch
):
    def refused(match, action, *arguments):
        with pytest.raises(checks.UserError, match=match) as error:
            action(*arguments, endpoint=hub.endpoint)
        assert "\n" not in str(error.value)

    refused("hub, someone/none: .*Not Found", publish.pull, "someone/none", tmp_path / "back")
    refused("hub, no name: .*alphanumeric", publish.pull, "no name", tmp_path / "back")
    publish.push(folder, REPO, endpoint=hub.endpoint)
    del hub.repositories[REPO]["config.json"]
    refused("small-net is not a release of seg_jax", publish.pull, REPO, tmp_path / "back")
    monkeypatch.setenv("HF_TOKEN", "of somebody else")
    refused(f"hub, {REPO}: .*401 .*password", publish.push, folder, REPO)


def test_without_a_hub_a_pull_does_not_take_what_is_there_for_new(hub, folder, tmp_path):
    publish.push(folder, REPO, endpoint=hub.endpoint)
    publish.pull(REPO, tmp_path / "back", endpoint=hub.endpoint)
    with pytest.raises(checks.UserError, match="refused"):
        publish.pull(REPO, tmp_path / "back", endpoint="http://127.0.0.1:9")
    assert contents(tmp_path / "back") == contents(folder)


def test_a_run_is_not_pulled_over(hub, folder, tmp_path):
    publish.push(folder, REPO, endpoint=hub.endpoint)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(checks.UserError, match="holds checkpoints"):
        publish.pull(REPO, tmp_path / "run", endpoint=hub.endpoint)


def test_a_release_made_again_keeps_all(folder, tmp_path):
    results.save(small_record(), folder / "result.json")
    out = export_release.export(folder, tmp_path / "again", license="apache-2.0")
    assert (out / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (out / "result.json").read_bytes() == (folder / "result.json").read_bytes()
    assert pretrained.load(out).labels == LABELS
    assert release.license_of(out) == "apache-2.0"
    assert 'license: "apache-2.0"' in (out / "card.md").read_text()


def test_published_weights_say_where_they_come_from(test_data, tmp_path):
    """Imported weights become a release: same arrays, VOC's label map, license and leak flag."""
    file = test_data / "weights" / "deeplabv3_mnv2_dm05_voc" / "deeplabv3.tflite"
    out = export_release.export(file, tmp_path / "release")
    before, after = pretrained.load(file), pretrained.load(out)
    assert after.name == before.name == "google_deeplabv3_mobilenetv2_dm05_voc"
    assert after.experiment == before.experiment
    assert after.labels.names[15] == "person"
    pairs = zip(*map(jax.tree.leaves, (before.variables, after.variables)), strict=True)
    assert all(np.asarray(a).tobytes() == b.tobytes() for a, b in pairs)
    text = (out / "card.md").read_text()
    assert 'license: "apache-2.0"' in text
    assert "Converted from deeplabv3.tflite" in text and "val images" in text
