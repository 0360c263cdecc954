"""State dicts from PyTorch's files, with NumPy alone. Nothing of a file is executed.

A .pth file is a pickle, which may name any function of any library to be called while it is read.
Here a pickle may name only what state dicts are made of, each replaced by a function of this
module; anything else is refused. Both of PyTorch's serialisations are read: the zip archive (since
1.6) and the older sequence of pickles (torch/serialization.py); and .safetensors.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg_jax.checks import UserError

_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older format
_DTYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
# Where training scripts keep the state dict in what they save.
_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net")


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a .pth, .pt or .safetensors file by their names.

    Of a training checkpoint those of the network only. bfloat16 becomes float32.

    Raises:
      UserError: it is none of these files, is damaged, holds no state dict, or names code.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with path.open("rb") as file:
            views, bytes_of, order = (_zip if zipfile.is_zipfile(file) else _legacy)(file)
            return {name: _array(view, bytes_of(view.storage.key), order) for name, view in views}
    except _Refused as error:
        raise UserError(
            f"{path}: refused: it names {error}, which no state dict needs and which would run "
            "while the file is read. If you trust its source, save the state dict alone: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
        ) from error
    except (
        pickle.UnpicklingError, struct.error, zipfile.BadZipFile, EOFError, KeyError, IndexError,
        AttributeError, TypeError, ValueError, OverflowError, ImportError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: no PyTorch file of weights, or damaged ({error})") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, TypeError, KeyError) as error:
        raise UserError(f"{path}: no safetensors file that is read here ({error})") from error


class _Refused(Exception):
    """A pickle names something that is not needed."""


class _Storage(NamedTuple):
    """A storage that a tensor is a view of; `values` is read when the pickle has been."""

    kind: str
    key: str


class _Function:
    """A function that a pickle may call, and cannot change: it has no attributes to set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: Any):
        raise _Refused(f"a change of {name}")

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _View(NamedTuple):
    """A tensor before its storage is read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage, offset, size, stride, *_):
    return _View(storage, offset, tuple(size), tuple(stride))


def _encode(text, encoding):
    if encoding != "latin1":
        raise _Refused(f"the encoding {encoding}")
    return text.encode("latin1")


def _number(dtype, stored=b""):
    return np.frombuffer(stored, dtype)[0].item()


def _dtype(code, *_):
    if not (isinstance(code, str) and code[:1] in "fiub"):
        raise _Refused(f"numpy.dtype({code!r})")
    return _DType(code)


class _DType(str):
    """The code of a NumPy number's type; the rest of its state is of no interest."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(lambda tensor, *_: tensor),
    ("torch", "Size"): _Function(tuple),
    ("_codecs", "encode"): _Function(_encode),
    # Scores and settings that training scripts save beside the weights.
    ("numpy", "dtype"): _Function(_dtype),
    ("numpy.core.multiarray", "scalar"): _Function(_number),
    ("numpy._core.multiarray", "scalar"): _Function(_number),
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
for _kind in _DTYPES:
    for _module in ("torch", "torch.cuda"):
        _NAMES[_module, f"{_kind}Storage"] = _kind


class _Unpickler(pickle.Unpickler):
    kinds: dict[str, str]  # of the storages by their keys

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _Refused(f"{module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, *_ = pid
        if tag != "storage" or kind not in _DTYPES:
            raise ValueError(f"unknown storage {pid!r}")
        self.kinds[key] = kind
        return _Storage(kind, key)


def _unpickle(file: Any, kinds: dict[str, str] | None = None) -> Any:
    unpickler = _Unpickler(file, encoding="utf-8")
    unpickler.kinds = {} if kinds is None else kinds
    return unpickler.load()


# The named tensors, what returns the bytes of a storage, and their order "<" or ">".
_Content = tuple[list[tuple[str, _View]], Callable[[str], bytes], str]


def _zip(file: Any) -> _Content:
    archive = zipfile.ZipFile(file)
    (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = index.removesuffix("data.pkl")
    views = _state_dict(_unpickle(io.BytesIO(archive.read(index))))
    order = "<"
    if f"{folder}byteorder" in archive.namelist():
        order = {b"little": "<", b"big": ">"}[archive.read(f"{folder}byteorder")]
    return views, lambda key: archive.read(f"{folder}data/{key}"), order


def _legacy(file: Any) -> _Content:
    file.seek(0)
    if _unpickle(file) != _MAGIC or _unpickle(file) != 1001:
        raise ValueError("it does not begin as one")
    order = "<" if _unpickle(file).get("little_endian", True) else ">"
    kinds: dict[str, str] = {}
    views = _state_dict(_unpickle(file, kinds))
    stored = {}
    for key in _unpickle(file):
        (count,) = struct.unpack(f"{order}q", file.read(8))
        stored[key] = file.read(count * np.dtype(_DTYPES[kinds[key]]).itemsize)
    return views, stored.__getitem__, order


def _state_dict(content: Any) -> list[tuple[str, _View]]:
    for key in (None, *_NESTED):
        found = content if key is None else content.get(key)
        if isinstance(found, Mapping):
            views = [(name, view) for name, view in found.items() if isinstance(view, _View)]
            if views:
                return views
    raise ValueError(f"it holds no state dict, also not under {', '.join(_NESTED)}")


def _array(view: _View, data: bytes, order: str) -> np.ndarray:
    dtype = np.dtype(_DTYPES[view.storage.kind]).newbyteorder(order)
    values = np.frombuffer(data, dtype)
    _, offset, size, stride = view
    if any(n < 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
        raise ValueError(f"a tensor of size {size} and stride {stride}")
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and reach >= len(values):
        raise ValueError(f"a tensor of size {size} does not fit into its storage")
    if view.storage.kind == "BFloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if 0 in size:
        return np.zeros(size, values.dtype.newbyteorder("="))
    strides = [s * values.itemsize for s in stride]
    found = np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
    return np.array(found, values.dtype.newbyteorder("="))
