"""Colours of palette masks, which tell where the indices of a mask mean other classes."""

from collections.abc import Sequence

import numpy as np

from seg_jax.checks import UserError
from seg_jax.data.images import File


def insist(
    file: File,
    values: np.ndarray,
    colors: np.ndarray,
    expected: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Raise a UserError if an index that a mask uses has another colour than the data set's.

    Args:
      file: the mask, for the error.
      values: its indices, uint8 [h w].
      colors: its palette, uint8 [n 3].
      expected: the data set's palette, uint8 [256 3].
      classes: names by class id, for the error.
    """
    if np.array_equal(colors, expected[: len(colors)]):
        return  # the ordinary case, without a look at the pixels
    used = np.unique(values)
    used = used[used < len(colors)]
    wrong = [int(i) for i in used if not np.array_equal(colors[i], expected[i])]
    if not wrong:
        return
    first = wrong[0]
    message = (
        f"{file}: the palette gives index {first} the colour {_text(colors[first])}, where this "
        f"data set has {_text(expected[first])}"
    )
    targets = {index: _index_of(colors[index], expected) for index in map(int, used)}
    if None in targets.values():
        raise UserError(f"{message}; the indices mean other classes: renumber the mask's pixels")
    mapping = ", ".join(
        f"{index}={target}" + (f" ({classes[target]})" if target < len(classes) else "")
        for index, target in targets.items()
        if target is not None and target != index
    )
    raise UserError(
        f"{message}; its colours are this data set's in another order: renumber the mask's pixels "
        f"{mapping}"
    )


def used_colors(values: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return the colours of the indices that a mask uses, int16 [256 3]; -1: not used.

    Args:
      values: pixels by index, [256].
      colors: its palette, uint8 [n 3].
    """
    used = np.flatnonzero(values[: len(colors)])
    found = np.full((256, 3), -1, np.int16)
    found[used] = colors[used]
    return found


def disagreement(palettes: Sequence[tuple[File, np.ndarray]]) -> str | None:
    """Return what is wrong where masks give one index different colours, else None.

    Args:
      palettes: every palette mask, and the colours of its indices, int16 [256 3]; -1 where an
        index is not used.
    """
    seen = np.full((256, 3), -1, np.int16)
    owner: dict[int, File] = {}
    for file, colors in palettes:
        new = (colors[:, 0] >= 0) & (seen[:, 0] < 0)
        seen[new] = colors[new]
        owner |= dict.fromkeys(np.flatnonzero(new).tolist(), file)
        differs = (colors[:, 0] >= 0) & (colors != seen).any(1)
        if differs.any():
            index = int(np.flatnonzero(differs)[0])
            return (
                f"{file}: the palette gives index {index} the colour {_text(colors[index])}, but "
                f"{_text(seen[index])} in {owner[index]}: the masks number their classes "
                "differently; renumber one, or save both without a palette if they do not"
            )
    return None


def _index_of(color: np.ndarray, palette: np.ndarray) -> int | None:
    found = np.flatnonzero((palette == color).all(1))
    return int(found[0]) if len(found) else None


def _text(color: np.ndarray) -> str:
    return "({}, {}, {})".format(*(int(value) for value in color))
