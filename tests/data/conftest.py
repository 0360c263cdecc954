"""Small data sets on disk, drawn once."""

from pathlib import Path

import pytest

from seg_jax.data.synthetic import dataset


@pytest.fixture(scope="session")
def tiny_voc(tmp_path_factory) -> Path:
    """A VOCdevkit of 10 train and 4 val pictures."""
    root = tmp_path_factory.mktemp("data") / "synthetic_voc"
    dataset.write(root, train=10, val=4)
    return root
