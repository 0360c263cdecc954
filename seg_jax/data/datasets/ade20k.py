"""ADE20K as the MIT Scene Parsing Benchmark released it (Zhou et al., CVPR 2017): 150 classes.

    images/training/ADE_train_00000001.jpg ... images/validation/ADE_val_00002000.jpg
    annotations/training/ADE_train_00000001.png ...       1..150, 0 = none of them (void)

Data: ADEChallengeData2016.zip, http://sceneparsing.csail.mit.edu. The full ADE20K release has
another layout and more than 3,000 object names, and is not supported.
"""

from pathlib import Path

import numpy as np

from seg_jax.checks import UserError, unknown
from seg_jax.data.source import Source
from seg_jax.types import IGNORE

GET = "unzip ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu)"
COUNTS = {"train": 20210, "val": 2000}
_FOLDERS = {"train": "training", "val": "validation"}

# objectInfo150.txt of the release: the first name of each class.
CLASSES = tuple(
    " ".join(
        """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk,
    person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa,
    shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp,
    bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand,
    sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table,
    pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower,
    book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
    arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight,
    booth, television, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman,
    bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
    swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball,
    food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen,
    blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen,
    plate, monitor, bulletin board, shower, radiator, glass, clock, flag
        """.split()
    ).split(", ")
)
# color150.mat of the benchmark's code: red, green and blue of every class, in hexadecimal.
_COLORS = bytes.fromhex(
    """
    787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33
    ff06528fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff
    08ffd607ffe0ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ff
    eb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff470000ebff00adff1f00ff
    0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff2900ffad
    0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc2
    00ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa
    8500ff00ff5cb800ffff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3
    ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff
    00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff005c00ff
    """
)


def folder(root: Path) -> Path:
    """Return the folder that holds images/ and annotations/: `root`, or the one in it."""
    for candidate in (root, root / "ADEChallengeData2016"):
        if (candidate / "images").is_dir() and (candidate / "annotations").is_dir():
            return candidate
    raise UserError(
        f"{root} holds no ADE20K: neither it nor ADEChallengeData2016 in it has images/ and "
        "annotations/; unzip ADEChallengeData2016.zip there, or name its folder with --data.root"
    )


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the splits that the folder has."""
    home = folder(root)
    return tuple(s for s in COUNTS if (home / "annotations" / _FOLDERS[s]).is_dir())


def open_split(root: Path, split: str) -> Source:
    """Read one split, in the order of the images' numbers."""
    home = folder(root)
    if split not in splits(root):
        raise UserError(f"split {split!r} of ADE20K: {unknown(split, splits(root))}")
    part = _FOLDERS[split]
    ids = tuple(sorted(path.stem for path in (home / "images" / part).glob("ADE_*.jpg")))
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASSES)] = np.frombuffer(_COLORS, np.uint8).reshape(-1, 3)
    return Source(
        name="ade20k" if len(ids) == COUNTS[split] else "ade20k-part",
        split=split,
        root=home,
        ids=ids,
        image_paths=tuple(f"images/{part}/{name}.jpg" for name in ids),
        label_paths=tuple(f"annotations/{part}/{name}.png" for name in ids),
        classes=CLASSES,
        label_ids={0: IGNORE, **{value: value - 1 for value in range(1, len(CLASSES) + 1)}},
        palette=palette,
        official=COUNTS[split],
    )
