"""State dicts from PyTorch's files, with NumPy alone. Nothing of a file is executed.

A .pth file is a pickle, which may name any function of any library to be called while it is read.
Here a pickle may name only what state dicts are made of, each replaced by a function of this
module; anything else is refused. Both of PyTorch's serialisations are read: the zip archive (since
1.6) and the older sequence of pickles (torch/serialization.py); and .safetensors. Memory is bounded
as `reading` says.
"""

import io
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from seg_jax.checks import UserError
from seg_jax.pretrained.formats import reading, safetensors, strict_pickle
from seg_jax.pretrained.formats.strict_pickle import BoundedFile, Function, Opaque, Refused

_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older format
_DTYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
# Where training scripts keep the state dict in what they save.
_NESTED = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights",
    "params", "checkpoint",
)  # fmt: skip
# Where they keep a moving average of it, which is read where there is nothing else.
_AVERAGED = (
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema", "ema_state",
    "shadow", "shadow_params",
)  # fmt: skip
_LEVELS = 4  # of dictionaries in each other
_LARGEST_DIRECTORY = 8 << 20  # bytes of a zip archive's list of members: 100,000 of them


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a .pth, .pt or .safetensors file by name, see `read_and_tell`."""
    return read_and_tell(path)[0]


def read_and_tell(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the tensors of a .pth, .pt or .safetensors file by their names, and a sentence where
    the file has a moving average of the weights, of which one was taken.

    Of a training checkpoint those of the network only. bfloat16 becomes float32.

    Raises:
      UserError: it is none of these files, is damaged, holds no state dict, names code, or would
        take more memory than it can be worth.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return safetensors.read(path), []
    try:
        with reading.explained(path, "PyTorch file of weights"), reading.open_regular(path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            content, bytes_of, order = (_zip if zipfile.is_zipfile(file) else _legacy)(file, size)
            budget = reading.Budget(size)
            tensors = {
                name: _array(view, bytes_of(view.storage.key), order, budget)
                for name, view in _state_dict(content)
            }
            return tensors, _told(content)
    except UserError as error:
        if isinstance(refused := error.__cause__, Refused):
            raise UserError(
                f"{path}: refused: it names {reading.printable(refused)}, which no state dict "
                "needs and which would run while the file is read. If you trust its source, save "
                "the state dict alone: "
                "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
            ) from refused
        raise


class _Storage(NamedTuple):
    """A storage that a tensor is a view of; `values` is read when the pickle has been."""

    kind: str
    key: str


class _View(NamedTuple):
    """A tensor before its storage is read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _View:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    numbers = (offset, *size, *stride)
    if not all(type(n) is int and 0 <= n < 2**62 for n in numbers) or len(size) != len(stride):
        raise ValueError(f"a tensor of size {size} and stride {stride}")
    return _View(storage, offset, tuple(size), tuple(stride))


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise Refused(f"the encoding {encoding}")
    return text.encode("latin1")


def _number(dtype: Opaque, stored: bytes = b"") -> int | float | bool:
    return np.frombuffer(stored, dtype.value)[0].item()


def _dtype(code: Any, *_: Any) -> Opaque:
    if not (isinstance(code, str) and re.fullmatch(r"[fiub][1248]", code)):
        raise Refused(f"numpy.dtype({code!r})")
    return Opaque(code)


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Function(strict_pickle.ordered_dict),
    ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(lambda tensor, *_: tensor),
    ("torch", "Size"): Function(lambda size=(): tuple(size)),
    ("_codecs", "encode"): Function(_encode),
    # Scores and settings that training scripts save beside the weights.
    ("numpy", "dtype"): Function(_dtype),
    ("numpy.core.multiarray", "scalar"): Function(_number),
    ("numpy._core.multiarray", "scalar"): Function(_number),
    ("builtins", "set"): Function(strict_pickle.plain_set),
    ("__builtin__", "set"): Function(strict_pickle.plain_set),
}
for _kind in _DTYPES:
    for _module in ("torch", "torch.cuda"):
        _NAMES[_module, f"{_kind}Storage"] = _kind


def _unpickle(file: BoundedFile, kinds: dict[str, str] | None = None) -> Any:
    """Return a pickle's data; `kinds` receives the storages' types by their keys."""

    def storage(identity: Any) -> _Storage:
        tag, kind, key, *_ = identity
        if tag != "storage" or kind not in _DTYPES or not isinstance(key, str):
            raise ValueError("a storage of an unknown kind")
        if kinds is not None:
            kinds[key] = kind
        return _Storage(kind, key)

    return strict_pickle.load(file, _NAMES, storage)


_Order = Literal["<", ">"]
# What was pickled, what returns the bytes of a storage, and their order.
_Content = tuple[Any, Callable[[str], bytes], _Order]


def _zip(file: BinaryIO, size: int) -> _Content:
    reading.check_zip(file, size, _LARGEST_DIRECTORY)
    archive = zipfile.ZipFile(file)
    (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = index.removesuffix("data.pkl")
    members: dict[str, bytes] = {}
    left = 2 * size  # members may overlap: bytes that all of them together may have

    def member(name: str) -> bytes:
        nonlocal left
        if name not in members:
            left -= reading.stored_size(archive, name, size)
            if left < 0:
                raise reading.TooLarge("its members are larger than the file")
            members[name] = archive.read(name)
        return members[name]

    pickled = member(index)
    content = _unpickle(BoundedFile(io.BytesIO(pickled), len(pickled)))
    order: _Order = "<"
    if f"{folder}byteorder" in archive.namelist():
        orders: dict[bytes, _Order] = {b"little": "<", b"big": ">"}
        order = orders[member(f"{folder}byteorder")]
    return content, lambda key: member(f"{folder}data/{key}"), order


def _legacy(file: BinaryIO, size: int) -> _Content:
    file.seek(0)
    bounded = BoundedFile(file, size)
    if _unpickle(bounded) != _MAGIC or _unpickle(bounded) != 1001:
        raise ValueError("it does not begin as one")
    order: _Order = "<" if _unpickle(bounded).get("little_endian", True) else ">"
    kinds: dict[str, str] = {}
    content = _unpickle(bounded, kinds)
    stored = {}
    for key in _unpickle(bounded):
        (count,) = struct.unpack(f"{order}q", bounded.read(8))
        stored[key] = bounded.read(count * np.dtype(_DTYPES[kinds[key]]).itemsize)
    return content, stored.__getitem__, order


def _state_dict(content: Any) -> list[tuple[str, _View]]:
    if found := _nested(content, _LEVELS):
        return found[1]
    raise ValueError(f"it holds no state dict, also not under {', '.join(_NESTED)}")


def _nested(content: Any, levels: int) -> tuple[tuple[str, ...], list[tuple[str, _View]]] | None:
    """Return the keys that lead to the first state dict, the outermost first, and its tensors."""
    if not isinstance(content, Mapping) or not levels:
        return None
    if views := [(str(name), view) for name, view in content.items() if isinstance(view, _View)]:
        return (), views
    for key in (*_NESTED, *_AVERAGED):
        if found := _nested(content.get(key), levels - 1):
            return (key, *found[0]), found[1]
    return None


def _told(content: Any) -> list[str]:
    """Return a sentence where one of weights and their moving average was taken, of the two."""
    found = _nested(content, _LEVELS)
    if found is None:
        return []
    keys, _ = found
    if any(key in _AVERAGED for key in keys):
        return [f"took the moving average {_place(keys)}: there are no other weights in the file"]
    for depth in range(len(keys) + 1):
        for key in _AVERAGED:
            if inner := _nested(content.get(key), 2):
                other = _place((*keys[:depth], key, *inner[0]))
                return [
                    f"took the weights {_place(keys)}, not their moving average {other}; to start "
                    f"from that: torch.save(torch.load(FILE, weights_only=False){other}, NEW)"
                ]
        content = content[keys[depth]] if depth < len(keys) else content
    return []


def _place(keys: tuple[str, ...]) -> str:
    return "".join(f"[{key!r}]" for key in keys) or "at the outermost level"


def _array(view: _View, data: bytes, order: _Order, budget: reading.Budget) -> np.ndarray:
    dtype = np.dtype(_DTYPES[view.storage.kind]).newbyteorder(order)
    values = np.frombuffer(data, dtype)
    brain = view.storage.kind == "BFloat16"
    offset, size, stride = view.offset, view.size, view.stride
    result = np.dtype(np.float32) if brain else dtype.newbyteorder("=")
    if 0 in size:
        return np.zeros(budget.shape([min(n, 1 << 20) for n in size], result), result)
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if reach >= len(values):
        raise ValueError(f"a tensor of size {size} does not fit into its storage")
    budget.shape(size, result)
    strides = [s * values.itemsize for s in stride]
    found = np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
    return reading.from_bfloat16(found) if brain else np.array(found, result)
