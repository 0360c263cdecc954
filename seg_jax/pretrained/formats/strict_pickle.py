"""An interpreter of pickles that hold plain data, with bounds; Python's own reader is not used.

Python's Unpickler takes gigabytes for a few bytes (a memo of any size, sets and dictionaries of one
byte each) and its tuples, nested a million deep, overflow the stack when they are hashed. Here
every instruction is interpreted (the opcodes are those of `pickletools`), their number and the
depth of tuples are bounded, and the keys of dictionaries are of types whose hashes nobody can make
collide.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

MOST_OPERATIONS = 300_000  # a training checkpoint of ResNet-152 with its optimiser has 60,000
_DEEPEST = 32  # tuples within tuples
_LARGEST_KEY = 2**60  # below it, Python's integers have hashes of their own


class Refused(Exception):
    """A pickle names something that is not needed."""


class Function:
    """What a pickle may call with plain arguments."""

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Return the function's result."""
        return self._function(*args)


class Opaque(NamedTuple):
    """A value without attributes of interest; a state that a pickle gives it is ignored."""

    value: Any


class BoundedFile:
    """A file that refuses to read beyond its end, before it allocates the memory for it."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        """Return exactly as many bytes.

        Raises:
          EOFError: there are not as many.
        """
        if not 0 <= count <= self._size - self._file.tell():
            raise EOFError("it ends too early")
        return self._file.read(count)

    def readline(self) -> bytes:
        """Return bytes to the end of a line."""
        return self._file.readline()

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def load(
    file: BoundedFile,
    names: Mapping[tuple[str, str], Any],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Return the plain data of a pickle; the file then stands behind it.

    Args:
      file: at the pickle's first byte.
      names: what a pickle may name, by module and name: functions as `Function`.
      persistent: from a persistent id to its value.

    Raises:
      Refused: it names something else.
      ValueError, EOFError, ...: it is damaged, too long or too deep.
    """
    machine = _Machine(names, persistent)
    # `genops` calls read, readline and tell only; its stub asks for every method of a file.
    operations = pickletools.genops(file)  # pyright: ignore[reportArgumentType]
    for count, (opcode, argument, _) in enumerate(operations):
        if count > MOST_OPERATIONS:
            raise ValueError(f"its pickle has more than {MOST_OPERATIONS} operations")
        if opcode.name == "STOP":
            return machine.pop()
        machine.run(opcode.name, argument)
    raise EOFError("its pickle has no end")


_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    def __init__(self, names: Mapping[tuple[str, str], Any], persistent: Callable | None):
        self._names, self._persistent = names, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._depths: dict[int, tuple[Any, int]] = {}  # of tuples by id; held, so that it stays

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("its pickle takes a mark for a value")
        return value

    def _take(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def _to_mark(self) -> list[Any]:
        found = []
        while (value := self._stack.pop()) is not _MARK:
            found.append(value)
        return found[::-1]

    def run(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        stack = self._stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _SIZES:
            stack.append(self._tuple(self._take(_SIZES[name])))
        elif (method := getattr(self, f"_do_{name.lower()}", None)) is not None:
            method(argument)
        else:
            raise Refused(f"the operation {name}")

    def _tuple(self, items: Any) -> tuple:
        found = tuple(items)
        depth = 1 + max((self._depths.get(id(item), (0, 0))[1] for item in found), default=0)
        if depth > _DEEPEST:
            raise ValueError(f"its pickle nests tuples more than {_DEEPEST} deep")
        self._depths[id(found)] = found, depth
        return found

    def _do_proto(self, _: Any) -> None:
        pass

    _do_frame = _do_proto

    def _do_mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _do_pop(self, _: Any) -> None:
        self._stack.pop()

    def _do_pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _do_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _do_tuple(self, _: Any) -> None:
        self._stack.append(self._tuple(self._to_mark()))

    def _do_list(self, _: Any) -> None:
        self._stack.append(self._to_mark())

    def _do_dict(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(_set_items({}, items))

    def _do_append(self, _: Any) -> None:
        (item,) = self._take(1)
        _as(list, self._stack[-1]).append(item)

    def _do_appends(self, _: Any) -> None:
        items = self._to_mark()
        _as(list, self._stack[-1]).extend(items)

    def _do_setitem(self, _: Any) -> None:
        items = self._take(2)
        _set_items(_as(dict, self._stack[-1]), items)

    def _do_setitems(self, _: Any) -> None:
        items = self._to_mark()
        _set_items(_as(dict, self._stack[-1]), items)

    def _do_additems(self, _: Any) -> None:
        items = self._to_mark()
        _as(set, self._stack[-1]).update(map(_key, items))

    def _do_put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _do_binget = _do_long_binget = _do_get

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _do_stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        self._name(_as(str, module), _as(str, name))

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in self._names:
            raise Refused(f"{module}.{name}")
        self._stack.append(self._names[module, name])

    def _do_reduce(self, _: Any) -> None:
        function, args = self._take(2)
        result = _as(Function, function)(*_as(tuple, args))
        self._stack.append(self._tuple(result) if type(result) is tuple else result)

    _do_newobj = _do_reduce

    def _do_build(self, _: Any) -> None:
        state, target = self.pop(), self._stack[-1]
        if not isinstance(target, OrderedDict | Opaque):
            names = [key for part in _parts(state) if isinstance(part, dict) for key in part]
            raise Refused(f"a change of {names[0] if names else type(target).__name__}")

    def _do_binpersid(self, _: Any) -> None:
        if self._persistent is None:
            raise ValueError("its pickle has persistent ids")
        self._stack.append(self._persistent(self.pop()))


def _parts(state: Any) -> tuple:
    return state if isinstance(state, tuple) else (state,)


def _as(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        wanted = getattr(kind, "__name__", kind)
        raise ValueError(f"its pickle has a {type(value).__name__} in place of a {wanted}")
    return value


def _key(value: Any) -> Any:
    plain = value is None or isinstance(value, str | bytes | bool)
    if not (plain or (isinstance(value, int) and abs(value) < _LARGEST_KEY)):
        raise ValueError(f"its pickle has a key that is a {type(value).__name__}")
    return value


def _set_items(target: dict, items: list[Any]) -> dict:
    if len(items) % 2:
        raise ValueError("its pickle has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value
    return target


def ordered_dict(pairs: Any = ()) -> OrderedDict:
    """Return an OrderedDict of pairs, as pickles of early protocols give them."""
    flat = [part for pair in _as(list | tuple, pairs) for part in _as(list | tuple, pair)]
    return OrderedDict(_set_items({}, flat))


def plain_set(items: Any = ()) -> set:
    """Return a set of plain values."""
    return set(map(_key, _as(list | tuple, items)))
