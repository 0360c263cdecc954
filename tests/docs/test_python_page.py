"""docs/python.md from top to bottom, in one interpreter."""

import jax
import pytest
from pages import ROOT, blocks, draw_own_data

PAGE = ROOT / "docs" / "python.md"


@pytest.mark.slow
def test_python_page_runs(tmp_path, monkeypatch, capsys):
    draw_own_data(tmp_path / "my_data")
    monkeypatch.chdir(tmp_path)
    names = {}
    with jax.numpy_dtype_promotion("standard"):  # as a reader's JAX; optax's Adam needs it
        for block in blocks(PAGE, "python"):
            exec(compile(block.text, f"{PAGE.name}: {block.text.splitlines()[0]}", "exec"), names)
    assert names["logits"].shape == (1, 64, 64, 3)
    assert names["batch"]["image"].shape == (8, 64, 64, 3)
    assert int(names["state"].step) == 40
    assert "train: 32 images" in capsys.readouterr().out
    assert names["total"].sum() == 8 * 72 * 96
    share_found = names["total"].diagonal() / names["total"].sum(1)
    assert share_found.min() > 0.5  # of each class: the background alone would find nothing else
    assert names["refined"].shape == (72, 96, 3)


def test_the_custom_loop_is_as_short_as_promised():
    (loop,) = [block for block in blocks(PAGE) if block.title == "loop.py"]
    assert len([line for line in loop.text.splitlines() if line.strip()]) <= 42
