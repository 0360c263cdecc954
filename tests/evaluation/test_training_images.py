"""Pictures of an evaluation during training, and their way into TensorBoard."""

import io
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from seg_jax.evaluation import training_images
from seg_jax.runs import log


class Source(list):
    classes = ("a", "b", "c")
    palette = np.array([(0, 0, 0), (200, 0, 0), (0, 200, 0)], np.uint8)


def source(count, height=20, width=30):
    rng = np.random.default_rng(0)
    return Source(
        {
            "id": str(number),
            "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
            "label": np.full((height, width), number % 3, np.uint8),
        }
        for number in range(count)
    )


def test_a_handful_spread_over_the_split_beside_truth_and_prediction():
    split = source(10)
    kept = training_images.TrainingImages(split)
    assert len(kept.shown) == 4 and kept.shown[1]["id"] == "3"
    for index in range(4):
        kept.keep(index, np.full((20, 30), 2, np.uint8))
    found = kept.images(np.eye(3, dtype=np.int64))
    names = [f"evaluate/image {index}: input, truth, prediction" for index in (0, 3, 6, 9)]
    assert list(found) == [*names, "evaluate/confusion"]
    picture = found[names[1]]
    np.testing.assert_array_equal(picture[:, :30], split[3]["image"])
    assert (picture[:, 30:60] == (0, 0, 0)).all() and (picture[:, 60:] == (0, 200, 0)).all()
    large = training_images.TrainingImages(source(1, 400, 800))
    large.keep(0, np.zeros((400, 800), np.uint8))
    assert next(iter(large.images(np.eye(3)).values())).shape == (160, 3 * 320, 3)


def test_the_matrix_is_dark_where_a_class_is_taken_for_another():
    image = training_images.matrix_image(np.array([[9, 0], [1, 3]]))
    middles = image[[80, 240]][:, [80, 240], 0]
    np.testing.assert_array_equal(middles, [[0, 255], [191, 64]])


def test_tensorboard_has_them_and_a_full_disk_does_not_end_the_run(tmp_path, monkeypatch):
    run_log = log.RunLog(tmp_path, 0, active=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    run_log.images(7, {"one": pixels})
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, read = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        read.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    (value,) = read[-1].summary.value
    assert (read[-1].step, value.tag, value.image.height, value.image.width) == (7, "one", 4, 6)
    with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)

    def full(*_):
        raise OSError("no space left")

    board = run_log._loggers._open["tensorboard"]._board
    monkeypatch.setattr(board, "_file", types.SimpleNamespace(append=full, close=full))
    run_log.images(8, {"one": pixels})
    run_log.close()
    with pytest.raises(OSError, match="no space"):
        board.write_images(8, {"one": pixels})
