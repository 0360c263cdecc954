"""Checkpoints come back bit for bit, or not at all."""

import dataclasses
import gc
import logging
import os
import resource
import shutil

import jax
import numpy as np
import pytest
import tensorstore as ts
import tiny

from seg_jax.checks import UserError
from seg_jax.runs import checkpoint, integrity
from seg_jax.runs import folder as run_folder


@pytest.fixture(scope="module")
def state():
    """A trained state: momentum, running averages and step are not what they start as."""
    rng = np.random.default_rng(0)
    state, per_device = tiny.setup(tiny.Tiny())
    return tiny.run(state, per_device, [tiny.make_batch(rng) for _ in range(2)])[0]


def at(state, step):
    return dataclasses.replace(
        state, step=np.int32(step), params=jax.tree.map(lambda x: x + step, state.params)
    )


def save(run, state, *, keep=2, **metadata):
    checkpoint.save(
        run, state, iterator={"next_batch": int(state.step)}, metadata=metadata, keep=keep
    )


def restore(run, like):
    return checkpoint.restore(run, checkpoint.newest(run), like)


def like(state):
    """The same structure with other values."""
    return jax.tree.map(np.zeros_like, state)


def files_of(run, step):
    folder = run / "checkpoints" / f"{step:08d}"
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "checksums.json")


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_everything_comes_back_bit_for_bit(tmp_path, state):
    save(tmp_path, state, note="x", numbers=[1, 2.5])
    found = restore(tmp_path, like(state))
    assert_identical(found.state, state)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))  # momentum was there
    assert found.iterator == {"next_batch": 2}
    assert found.metadata == {"note": "x", "numbers": [1, 2.5]}


def test_nothing_saved_is_none_and_the_newest_wins(tmp_path, state):
    assert checkpoint.newest(tmp_path) is None
    for step in (10, 9, 100):
        save(tmp_path, at(state, step))
    assert restore(tmp_path, state).state.step == 100


def test_only_the_newest_are_kept(tmp_path, state):
    for step in (1, 2, 3, 4):
        save(tmp_path, at(state, step), keep=2)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["00000003", "00000004"]


def test_a_step_that_was_saved_is_not_written_again(tmp_path, state):
    save(tmp_path, state, session=1)
    save(tmp_path, state, session=2)
    assert restore(tmp_path, state).metadata == {"session": 1}


def damage_by_truncation(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_by_a_flipped_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def damage_by_removal(file):
    file.unlink()


@pytest.mark.parametrize(
    "damage", [damage_by_truncation, damage_by_a_flipped_bit, damage_by_removal]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, state, damage, caplog):
    save(tmp_path, at(state, 1))
    save(tmp_path, at(state, 2))
    victim = max(files_of(tmp_path, 2), key=lambda file: file.stat().st_size)
    damage(victim)
    with caplog.at_level(logging.WARNING):
        found = restore(tmp_path, state)
    assert_identical(found.state, at(state, 1))
    assert "00000002 is damaged" in caplog.text and victim.name in caplog.text
    # It does not count any more, and does not push a good one out.
    save(tmp_path, at(state, 3), keep=2)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"00000001", "00000002.damaged", "00000003"}


def test_every_single_file_is_guarded(tmp_path, state):
    save(tmp_path, state)
    for file in files_of(tmp_path, 2):
        content = file.read_bytes()
        damage_by_a_flipped_bit(file)
        problem = integrity.problem(tmp_path / "checkpoints" / "00000002")
        assert file.name in problem, file
        file.write_bytes(content)
    assert integrity.problem(tmp_path / "checkpoints" / "00000002") is None


def test_all_damaged_is_an_error_every_time_and_not_a_fresh_start(tmp_path, state):
    save(tmp_path, at(state, 1))
    save(tmp_path, at(state, 2))
    for step in (1, 2):
        damage_by_truncation(files_of(tmp_path, step)[0])
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    for _ in range(2):
        with pytest.raises(
            UserError, match="every checkpoint in .* is damaged .*00000002: 1 files"
        ):
            checkpoint.newest(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before


def test_what_was_set_aside_and_nothing_whole_is_refused(tmp_path, state):
    save(tmp_path, state)
    folder = tmp_path / "checkpoints"
    (folder / "00000002").rename(folder / "00000002.damaged")
    with pytest.raises(UserError, match="every checkpoint in .* is damaged .set aside earlier"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", "lists no files"),
        (b"[]", "lists no files"),
        (b'{"variables/_METADATA": 1}', "files changed"),
        (b"{\xa5", "is not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (None, "cannot be read"),
    ],
)
def test_broken_checksums_are_damage(tmp_path, state, content, problem):
    save(tmp_path, at(state, 1))
    save(tmp_path, at(state, 2))
    path = tmp_path / "checkpoints" / "00000002" / "checksums.json"
    path.write_bytes(content) if content is not None else path.unlink()
    assert problem in integrity.problem(path.parent)
    assert checkpoint.newest(tmp_path) == 1
    assert (tmp_path / "checkpoints" / "00000002.damaged").is_dir()


def test_a_file_that_was_not_written_is_damage_but_a_file_manager_s_is_not(tmp_path, state):
    save(tmp_path, state)
    folder = tmp_path / "checkpoints" / "00000002"
    (folder / ".DS_Store").write_bytes(b"x")
    assert integrity.problem(folder) is None
    (folder / "variables" / "more").write_bytes(b"x")
    assert "1 files not listed, e.g. variables/more" in integrity.problem(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_in_a_checkpoint_are_never_read(tmp_path, state, make):
    save(tmp_path, state)
    file = files_of(tmp_path, 2)[0]
    file.unlink()
    make(file)
    assert "is no regular file" in integrity.problem(tmp_path / "checkpoints" / "00000002")


def test_an_interrupted_save_does_not_count_and_is_cleared_away(tmp_path, state, caplog):
    save(tmp_path, at(state, 1))
    folder = tmp_path / "checkpoints"
    # Killed while Orbax wrote, before the checksums, and while an old checkpoint was removed.
    for name in (".saving.00000002.orbax-checkpoint-tmp", ".saving.00000003", ".removing.00000000"):
        shutil.copytree(folder / "00000001", folder / name)
    (folder / ".saving.00000003" / "checksums.json").unlink()
    assert restore(tmp_path, state).state.step == 1
    assert not caplog.records
    save(tmp_path, at(state, 4))
    assert sorted(path.name for path in folder.iterdir()) == ["00000001", "00000004"]


def test_a_write_that_fails_leaves_the_last_good_one(tmp_path, state, rng):
    large = {"large": rng.normal(size=10_000).astype(np.float32)}
    wide = dataclasses.replace(state, params=state.params | large)
    save(tmp_path, at(wide, 1))
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a write beyond 4 KiB fails
    try:
        with pytest.raises(checkpoint.SaveError, match="00000002 could not be written"):
            save(tmp_path, at(wide, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    gc.collect()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000001"]
    assert_identical(restore(tmp_path, wide).state, at(wide, 1))
    save(tmp_path, at(wide, 2))
    assert restore(tmp_path, wide).state.step == 2


def test_another_network_is_refused_with_the_difference(tmp_path, state):
    save(tmp_path, state)
    seven = {"score": {**state.params["score"], "bias": np.zeros(7, np.float32)}}
    with pytest.raises(UserError, match=r"network: 1 .*score/bias is \(3,\) there and \(7,"):
        restore(tmp_path, dataclasses.replace(state, params=state.params | seven))
    with pytest.raises(UserError, match="norm/mean is .* there and absent here"):
        restore(tmp_path, dataclasses.replace(state, batch_stats={}))


def test_another_configuration_s_checkpoint_is_refused(tmp_path, state):
    trained, other = tiny.experiment(), tiny.experiment(seed=1)
    run_folder.write_config(tmp_path, trained)
    save(tmp_path, state, config=run_folder.identity(trained))
    assert restore(tmp_path, state).state.step == 2
    run_folder.write_config(tmp_path, other)
    for read in (lambda: restore(tmp_path, state), lambda: checkpoint.restore_variables(tmp_path)):
        with pytest.raises(UserError, match="00000002 was trained with another configuration"):
            read()
    # As an earlier version of the program described the same training.
    run_folder.write_config(tmp_path, other, former=[run_folder.identity(trained)])
    assert restore(tmp_path, state).state.step == 2


def resealed(run, step):
    """Give a checkpoint that a test changed the checksums of a whole one."""
    integrity.write(run / "checkpoints" / f"{step:08d}")


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xa5\x00", b"[" * 100_000])
def test_a_stranger_s_broken_files_are_one_line(tmp_path, state, name, content):
    run_folder.write_config(tmp_path, tiny.experiment())
    save(tmp_path, state)
    for file in (tmp_path / "checkpoints" / "00000002").rglob(name):
        file.write_bytes(content)
    resealed(tmp_path, 2)
    try:
        _, variables, _ = checkpoint.restore_variables(tmp_path)
    except UserError as error:
        assert "00000002 cannot be read" in str(error) and "\n" not in str(error)
    else:  # a file that Orbax can do without
        assert_identical(variables["params"], state.params)


def test_a_stranger_s_shapes_are_checked_before_memory_is_asked_for(tmp_path, state):
    run_folder.write_config(tmp_path, tiny.experiment())
    save(tmp_path, state)
    store = {"driver": "zarr", "kvstore": {"driver": "ocdbt"}}
    item = tmp_path / "checkpoints" / "00000002" / "variables"
    store["kvstore"] |= {"base": f"file://{item}", "path": "params.conv.kernel/"}
    huge = {"shape": [2**40], "chunks": [2**40], "dtype": "<f4"}
    ts.open(store | {"metadata": huge}, create=True, delete_existing=True).result()
    resealed(tmp_path, 2)
    with pytest.raises(UserError, match="claims arrays of 4096.0 GiB in files of"):
        checkpoint.restore_variables(tmp_path)


def test_a_checkpoint_that_is_removed_while_it_is_read_gives_way_to_the_newer(
    tmp_path, state, monkeypatch
):
    run_folder.write_config(tmp_path, tiny.experiment())
    save(tmp_path, at(state, 1))
    load, check = checkpoint._load, integrity.problem

    def replace_before(function):
        """The trainer saves again, and keeps one, just before `function` is called."""

        def replaced(path, *arguments):
            if path.name == "00000001":
                save(tmp_path, at(state, 2), keep=1)
            return function(path, *arguments)

        return replaced

    monkeypatch.setattr(integrity, "problem", replace_before(check))
    assert checkpoint.restore_variables(tmp_path)[2] == 2
    monkeypatch.setattr(integrity, "problem", check)
    shutil.rmtree(tmp_path / "checkpoints")
    save(tmp_path, at(state, 1))
    monkeypatch.setattr(checkpoint, "_load", replace_before(load))
    assert checkpoint.restore_variables(tmp_path)[2] == 2


def test_variables_come_back_with_the_experiment(tmp_path, state):
    with pytest.raises(UserError, match="is no run folder"):
        checkpoint.restore_variables(tmp_path)
    experiment = tiny.experiment()
    run_folder.write_config(tmp_path, experiment)
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        checkpoint.restore_variables(tmp_path)
    save(tmp_path, at(state, 1))
    save(tmp_path, at(state, 2))
    damage_by_truncation(files_of(tmp_path, 2)[-1])
    found, variables, step = checkpoint.restore_variables(tmp_path)
    assert found == experiment and step == 1
    assert_identical(variables["params"], at(state, 1).params)
    assert_identical(variables["batch_stats"], state.batch_stats)
