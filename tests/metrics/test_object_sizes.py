"""IoU of objects, and the errors of ISBI 2012, against loops over pixels."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from seg_jax import metrics
from seg_jax.metrics import isbi2012, object_sizes
from seg_jax.types import IGNORE

EIGHT = np.ones((3, 3), int)


def flood(mask, start, steps):
    """The component of a mask that holds `start`, as a set of pixels."""
    found, waiting = {start}, [start]
    while waiting:
        row, column = waiting.pop()
        for down, right in steps:
            near = (row + down, column + right)
            inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
            if inside and mask[near] and near not in found:
                found.add(near)
                waiting.append(near)
    return found


def components(mask, steps):
    found = []
    for pixel in map(tuple, np.argwhere(mask).tolist()):
        if not any(pixel in other for other in found):
            found.append(flood(mask, pixel, steps))
    return found


ALL_AROUND = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]
CROSS = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def slow_objects(label, prediction, classes):
    rows = []
    for value in classes:
        own = components(label == value, ALL_AROUND)
        found = components((prediction == value) & (label != IGNORE), ALL_AROUND)
        of_class = set().union(*own)
        for thing in own:
            touching = set().union(*(region for region in found if region & thing))
            union = thing | (touching - of_class)
            rows.append((value, len(thing), len(thing & touching) / len(union)))
    return sorted(rows)


@pytest.fixture
def pairs(rng):
    def draw():
        label = np.zeros((24, 30), np.uint8)
        for value in rng.integers(1, 4, 7):
            top, left = rng.integers(0, 22, 2)
            label[top : top + rng.integers(2, 9), left : left + rng.integers(2, 9)] = value
        prediction = np.roll(label, rng.integers(-2, 3, 2), axis=(0, 1))
        prediction[rng.random(label.shape) < 0.1] = 1
        label[rng.random(label.shape) < 0.05] = IGNORE
        return label, prediction

    return [draw() for _ in range(6)]


def test_objects_equal_sets_of_pixels(pairs):
    for label, prediction in pairs:
        found = metrics.object_iou(label, prediction, (1, 2, 3))
        rows = sorted(zip(*(column.tolist() for column in found), strict=True))
        expected = slow_objects(label, prediction, (1, 2, 3))
        assert [row[:2] for row in rows] == [row[:2] for row in expected]
        np.testing.assert_allclose([r[2] for r in rows], [r[2] for r in expected])
        assert 0 < np.mean([row[2] for row in rows]) < 1


def test_one_region_over_two_objects_is_right_for_both():
    label = np.zeros((9, 20), np.uint8)
    label[2:6, 2:6], label[2:6, 8:12] = 1, 1
    prediction = np.zeros_like(label)
    prediction[2:6, 2:12] = 1  # also over the 8 px between them
    prediction[8, 15:] = 1  # touches no object: counts nowhere
    value, area, iou = metrics.object_iou(label, prediction, (1,))
    assert value.tolist() == [1, 1] and area.tolist() == [16, 16]
    np.testing.assert_allclose(iou, [16 / 24, 16 / 24])


def test_sizes_are_coco_s():
    """Below 32 x 32 px small, below 96 x 96 medium."""
    label = np.zeros((200, 330), np.uint8)
    label[:31, :33], label[:32, 50:82] = 1, 1
    label[:100, 100:192], label[:96, 200:296] = 1, 1  # 9200 < 9216
    label[120:, :] = 2
    scores = metrics.of_image(label, label, ("background", "a", "b"), ())
    np.testing.assert_array_equal(scores.objects[1], [[0, 1, 0], [0, 2, 0], [0, 1, 1]])
    assert scores.object_iou == (1, 1, 1)


def test_means_over_a_class_s_objects_then_over_classes(pairs):
    names = ("background", "a", "b", "c")
    total = sum((metrics.of_image(*pair, names, ()) for pair in pairs), metrics.Scores.zero(4, ()))
    rows = [row for pair in pairs for row in slow_objects(*pair, (1, 2, 3))]
    by_class = [np.mean([iou for value, _, iou in rows if value == c]) for c in (1, 2, 3)]
    small, medium, large = total.object_iou
    assert small == pytest.approx(np.mean(by_class))
    assert np.isnan(medium) and np.isnan(large)


def test_without_a_background_every_class_has_objects():
    label = np.zeros((8, 8), np.uint8)
    scores = metrics.of_image(label, label, ("sky", "road"), ())
    assert scores.objects[1].sum() == 1
    empty = metrics.object_iou(np.full((4, 4), IGNORE), label[:4, :4], (0, 1))
    assert [column.size for column in empty] == [0, 0, 0]


def test_iou_of_single_images_and_dice(pairs):
    names = ("background", "a", "b", "c")
    scores = [metrics.of_image(*pair, names, ()) for pair in pairs]
    expected, counts = [], 0
    for label, prediction in pairs:
        valid = label != IGNORE
        truth, found = label[valid], prediction[valid]
        ious = []
        for value in range(4):
            union = ((truth == value) | (found == value)).sum()
            if union:
                ious.append(((truth == value) & (found == value)).sum() / union)
        expected.append(np.mean(ious))
        counts = counts + np.array(
            [[((truth == v) & (found == v)).sum(), (truth == v).sum() + (found == v).sum()]
             for v in range(4)]
        )  # fmt: skip
    total = sum(scores, metrics.Scores.zero(4, ()))
    assert total.mean_image_iou == pytest.approx(np.mean(expected), abs=1e-9)
    assert total.mean_dice == pytest.approx(np.mean(2 * counts[:, 0] / counts[:, 1]))
    iou = total.per_class_iou
    np.testing.assert_allclose(metrics.per_class_dice(total.confusion), 2 * iou / (1 + iou))


def test_gcn_s_boundary_and_internal_accuracy():
    """Right in the 7 px on each side of a step, half wrong beyond."""
    label = np.zeros((10, 60), np.uint8)
    label[:, 30:] = 1
    prediction = label.copy()
    prediction[:5, :23] = prediction[5:, 37:] = 2
    scores = metrics.of_image(label, prediction, ("background", "a", "b"), (2, 7))
    assert (scores.boundary_accuracy, scores.internal_accuracy) == (1, 0.5)
    other = metrics.of_image(label, prediction, ("background", "a", "b"), (2, 5))
    assert np.isnan(other.boundary_accuracy) and np.isnan(other.internal_accuracy)


# ISBI 2012


def slow_rand_error(truth, found):
    """Over all pairs of pixels in true cells, those of one pixel with itself included."""
    cells, regions = components(truth, CROSS), components(found, CROSS)
    pixels = list(map(tuple, np.argwhere(truth).tolist()))
    cell = {p: i for i, members in enumerate(cells) for p in members}
    region = {p: i for i, members in enumerate(regions) for p in members}
    both = in_cell = in_region = 0
    for one, other in itertools.product(pixels, pixels):
        same_cell = cell[one] == cell[other]
        alone = one not in region or other not in region
        same_region = one == other if alone else region[one] == region[other]
        both += same_cell and same_region
        in_cell += same_cell
        in_region += same_region
    precision, recall = both / in_region, both / in_cell
    return 1 - 2 * precision * recall / (precision + recall)


@pytest.fixture
def sections(rng):
    """Cells between membranes, and membranes with gaps and stray ones."""

    def draw():
        truth = np.ones((14, 17), bool)
        truth[rng.integers(3, 11)] = truth[:, rng.integers(3, 14)] = False
        found = truth.copy()
        found[rng.random(truth.shape) < 0.08] ^= True
        found[rng.integers(0, 14, 3), rng.integers(0, 17, 3)] = True
        return truth, found

    return [draw() for _ in range(5)]


def test_rand_error_equals_the_loop_over_pairs_of_pixels(sections):
    for truth, found in sections:
        expected = slow_rand_error(truth, found)
        assert isbi2012.rand_error(truth, found) == pytest.approx(expected)
        assert expected > 0.01
    truth, _ = sections[0]
    assert isbi2012.rand_error(truth, truth) == 0
    assert isbi2012.rand_error(~np.ones((4, 4), bool), np.ones((4, 4), bool)) == 0


def topology(cells):
    """Numbers of 4-connected cells and of 8-connected membranes, outside being membrane."""
    padded = np.pad(cells, 1)
    return len(components(padded, CROSS)), len(components(~padded, ALL_AROUND))


def test_a_pixel_is_simple_if_flipping_it_keeps_the_numbers_of_components():
    """Of cells and of membranes, in the 3 x 3 neighbourhood, for all 256 of them."""
    for code in range(256):
        as_membrane = np.zeros((3, 3), bool)
        for bit, (row, column) in enumerate(isbi2012._RING):
            as_membrane[1 + row, 1 + column] = code >> bit & 1
        as_cell = as_membrane.copy()
        as_cell[1, 1] = True
        same_cells = len(components(as_cell, CROSS)) == len(components(as_membrane, CROSS))
        membranes_with, membranes_without = (
            len(components(~cells, ALL_AROUND)) for cells in (as_membrane, as_cell)
        )
        expected = same_cells and membranes_with == membranes_without
        assert isbi2012._is_simple(code) == expected, code


def test_moved_membranes_warp_away_and_broken_ones_do_not():
    truth = np.ones((20, 30), bool)
    truth[:, 9:12] = False
    moved = np.ones_like(truth)
    moved[:9, 11] = moved[8:, 12:14] = False
    assert isbi2012.warping_error(truth, moved) == 0
    assert np.mean(truth != moved) > 0.05
    broken = moved.copy()
    broken[4, 11] = True  # merges the two cells
    assert isbi2012.warping_error(truth, broken) == pytest.approx(1 / truth.size)
    hole = moved.copy()
    hole[15, 25] = False  # a hole in a cell
    assert isbi2012.warping_error(truth, hole) == pytest.approx(1 / truth.size)


def test_warping_keeps_the_truth_s_topology(sections):
    for truth, found in sections:
        error = isbi2012.warping_error(truth, found)
        # Where both have the same topology it may vanish, and it never exceeds the pixel error.
        assert 0 <= error <= np.mean(truth != found)
        if topology(truth) != topology(found):
            assert error > 0
    assert {topology(truth) == topology(found) for truth, found in sections} != {True}


def test_only_isbi_s_classes_have_these_errors(sections):
    truth, found = (part.astype(np.uint8) for part in sections[0])
    scores = metrics.of_image(truth, found, ("membrane", "cell"), ())
    pixel, rand, warping = scores.membrane_errors
    assert pixel == pytest.approx(np.mean(truth != found))
    assert rand == pytest.approx(slow_rand_error(truth == 1, found == 1))
    assert 0 < warping <= pixel
    assert np.isnan(metrics.of_image(truth, found, ("road", "cell"), ()).membrane_errors).all()


def test_the_connectivity_is_scipy_s():
    assert object_sizes._EIGHT.tolist() == EIGHT.tolist()
    diagonal = np.eye(3, dtype=np.uint8)
    assert metrics.object_iou(diagonal, diagonal, (1,))[1].tolist() == [3]
    assert ndimage.label(diagonal)[1] == 3
