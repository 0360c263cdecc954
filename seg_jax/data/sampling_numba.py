"""Numba kernels of `sampling`: the same float32 operations in the same order, so the same bits.

They are compiled at the first call and cached on disk. Both release the GIL, so that the threads
that make batches run beside each other.
"""

import numpy as np
from numba import njit

from seg_jax.kernels.numba_options import OPTIONS


@njit(**OPTIONS)
def sample_crop(
    image, label, above, below, down, nearest_row, left, right, across, nearest_column,
    first, interpolate, pad, half, result, result_label,
):  # fmt: skip
    """Write an image's bilinear and a label's nearest samples, and padding around them.

    Args:
      image: uint8 or float32 [h w*channels].
      label: uint8 [h w].
      above: the row above each sampled row, int [rows].
      below: the row below it.
      down: its distance from the row above, float32 [rows], 0..1.
      nearest_row: the label's row, int [rows].
      left: of each sampled column, the first channel's place in a row of `image`, uint32 [columns].
      right: the same of its right neighbour.
      across: its distance from the left one, float32 [columns], 0..1.
      nearest_column: the label's column, uint32 [columns].
      first: column of the result in which the samples begin; rows begin at the top.
      interpolate: False: all distances are 0, and pixels are copied.
      pad: value of the other pixels, a tuple, one a channel; their label is 255.
      half: added before a value is stored.
      result: as `image`, [crop height, crop width * channels].
      result_label: uint8 [crop height, crop width].
    """
    channels = len(pad)  # of a tuple: a constant for the compiler, which unrolls the loops over it
    begin, end = left.min(), right.max() + channels
    strip = np.empty(image.shape[1], np.float32)  # the sampled row, at the image's columns
    for y in range(len(result)):
        row, row_label = result[y], result_label[y]
        covered = len(left) if y < len(above) else 0
        for x in range(first if covered else 0):
            row_label[x] = 255
            for c in range(channels):
                row[x * channels + c] = pad[c]
        for x in range(first + covered if covered else 0, len(row_label)):
            row_label[x] = 255
            for c in range(channels):
                row[x * channels + c] = pad[c]
        if not covered:
            continue
        upper, lower = image[above[y]], image[below[y]]
        nearest = label[nearest_row[y]]
        for x in range(covered):
            row_label[first + x] = nearest[nearest_column[x]]
        # Unsigned indices cannot be negative, which saves a test.
        if not interpolate:
            for x in range(covered):
                for c in range(channels):
                    row[(first + x) * channels + c] = upper[left[x] + np.uint32(c)]
            continue
        for k in range(begin, end):
            value = np.float32(upper[k])
            strip[k] = value + (np.float32(lower[k]) - value) * down[y]
        for x in range(covered):
            for c in range(channels):
                value = strip[left[x] + np.uint32(c)]
                value += (strip[right[x] + np.uint32(c)] - value) * across[x]
                row[(first + x) * channels + c] = value + half


@njit(**OPTIONS)
def sample_points(image, label, rows, columns, half, result, result_label):
    """Write the samples at points, float64 [a b], clipped to the image.

    Args:
      image: uint8 or float32 [h w channels].
      label: uint8 [h w].
      rows: of the points, in pixels from the top.
      columns: of the points, in pixels from the left.
      half: added before a value is stored.
      result: as `image`, [a b channels].
      result_label: uint8 [a b].
    """
    height, width = label.shape
    for a in range(rows.shape[0]):
        for b in range(rows.shape[1]):
            row = min(max(rows[a, b] - 0.5, 0.0), float(height - 1))
            column = min(max(columns[a, b] - 0.5, 0.0), float(width - 1))
            y, x = int(row), int(column)
            down, across = np.float32(row - y), np.float32(column - x)
            below, beside = min(y + 1, height - 1), min(x + 1, width - 1)
            for c in range(image.shape[2]):
                upper, lower = np.float32(image[y, x, c]), np.float32(image[below, x, c])
                upper += (np.float32(image[y, beside, c]) - upper) * across
                lower += (np.float32(image[below, beside, c]) - lower) * across
                upper += (lower - upper) * down
                result[a, b, c] = upper + half
            y = int(min(max(rows[a, b], 0.0), float(height - 1)))
            x = int(min(max(columns[a, b], 0.0), float(width - 1)))
            result_label[a, b] = label[y, x]
