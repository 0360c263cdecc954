"""PyTorch's files without PyTorch. Those in `files` were written by torch.save of torch 2.13: a
state dict and a training checkpoint, each in both serialisations.
"""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from seg_jax.checks import UserError
from seg_jax.pretrained.formats import torch

FILES = Path(__file__).parent / "files"
EXPECTED = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.float32([0.5, -1.5]),
    "half": np.float16([1.0, 2.5]),
    "brain": np.float32([1.0, -3.0]),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "part": np.float32([2, 3, 4]),
    "other_part": np.float32([4, 5]),
    "count": np.int64(7),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "parameter": np.ones(2, np.float32),
}


@pytest.mark.parametrize("name", ["state_zip", "state_old", "checkpoint_zip", "checkpoint_old"])
def test_reads_what_torch_wrote(name):
    found = torch.read(FILES / f"{name}.pth")
    assert found.keys() == EXPECTED.keys()
    for key, expected in EXPECTED.items():
        np.testing.assert_array_equal(found[key], expected)
        assert found[key].dtype == np.asarray(expected).dtype


class Evil:
    """What a pickle of it does when it is read the ordinary way."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def as_zip(payload):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    return data.getvalue()


def as_old(payload):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + payload + pickle.dumps([], 2)


@pytest.mark.parametrize("pack", [as_zip, as_old])
@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch {}",), "posix.system"),
        (eval, ("open('{}', 'w')",), "__builtin__.eval"),
        (getattr, (os, "system"), "__builtin__.getattr"),
        (np.load, ("{}",), "numpy.load"),
        (os.makedirs, ("{}",), "os.makedirs"),
    ],
)
def test_a_malicious_pickle_is_refused(tmp_path, pack, function, args, name):
    victim = tmp_path / "victim"
    args = tuple(a.format(victim) if isinstance(a, str) else a.__name__ for a in args)
    state = {"conv.weight": Evil(function, *args)}
    (tmp_path / "evil.pth").write_bytes(pack(pickle.dumps(state, 2)))
    with pytest.raises(UserError, match=f"evil.pth: refused: it names {name}, which no state"):
        torch.read(tmp_path / "evil.pth")
    assert not victim.exists()


def test_the_test_s_pickle_is_dangerous(tmp_path):
    """Read the ordinary way it does run: the refusals above are no accident."""
    evil = pickle.dumps(Evil(os.makedirs, str(tmp_path / "victim")), 2)
    pickle.loads(evil)
    assert (tmp_path / "victim").is_dir()


# Opcodes: a global, then a state for it. BUILD sets attributes of whatever a pickle has named.
TAMPER = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x09\x00\x00\x00_functionK\x01s\x86b."


@pytest.mark.parametrize("pack", [as_zip, as_old])
def test_a_pickle_cannot_change_the_reader(tmp_path, pack):
    (tmp_path / "evil.pth").write_bytes(pack(TAMPER))
    with pytest.raises(UserError, match="evil.pth: refused: it names a change of _function"):
        torch.read(tmp_path / "evil.pth")
    assert torch.read(FILES / "state_zip.pth").keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", ["state_zip", "state_old"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_damaged_file_is_named(tmp_path, name, share):
    data = (FILES / f"{name}.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match="cut.pth: no PyTorch file of weights, or damaged"):
        torch.read(tmp_path / "cut.pth")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    """A view is checked before memory is looked at."""
    data = (FILES / "state_old.pth").read_bytes()
    # conv.bias has two elements from 0 on, of stride 1: let it have 200.
    size = b"K\x00K\x02\x85"
    assert data.count(size) >= 1
    (tmp_path / "large.pth").write_bytes(data.replace(size, b"K\x00K\xc8\x85"))
    with pytest.raises(UserError, match="large.pth.* does not fit into its storage"):
        torch.read(tmp_path / "large.pth")


def test_what_holds_no_state_dict(tmp_path):
    (tmp_path / "x.pth").write_bytes(as_zip(pickle.dumps({"epoch": 3}, 2)))
    with pytest.raises(UserError, match="x.pth.*holds no state dict, also not under state_dict,"):
        torch.read(tmp_path / "x.pth")


def test_safetensors(tmp_path):
    tensors = {"a.weight": EXPECTED["conv.weight"], "b": EXPECTED["half"]}
    save_file(tensors, tmp_path / "x.safetensors")
    found = torch.read(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(found["a.weight"], tensors["a.weight"])
    (tmp_path / "y.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(UserError, match="y.safetensors: no safetensors file"):
        torch.read(tmp_path / "y.safetensors")
