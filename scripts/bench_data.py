"""Images per second of one core, beside PyTorch's DataLoader and torchvision.transforms.v2.

    python scripts/bench_data.py voc2012 ROOT [--split train] [--crop 513] [--rounds 7]

Two tasks, decoding alone and batches of decoded, scaled, cropped and mirrored images, for the
folder reader, for the first images of it kept in memory (`--data.cache`), for the ArrayRecord
reader and for PyTorch. They take turns in one process that is bound to one core, so that other load
slows all of them, and the process's own time is counted, not that of others. Printed: median images
per second over the rounds, and the ratio to the folder reader. PyTorch's column needs torch and
torchvision, as in .venv-parity, made by scripts/test_parity.sh.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from seg_jax import data
from seg_jax.data import cached, pipeline
from seg_jax.data.cached import Cached
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.prepare import tfds
from seg_jax.data.preprocessing import TORCH
from seg_jax.data.source import Source, Subset
from seg_jax.types import IGNORE

_BATCH = 8
_SCALE = (0.5, 2.0)


def seg_jax_functions(source: Source | Cached, crop: int) -> dict[str, Callable[[int], object]]:
    """Return the functions of the two tasks: read image i, and make augmented batch b."""
    augmentation = Augmentation(crop=(crop, crop), scale=_SCALE, flip=0.5)
    config = DataConfig(dataset="", augmentation=augmentation, preprocessing=TORCH)
    make = pipeline.MakeBatch(source, config, 0, _BATCH, slice(None))
    return {"decode": lambda index: source[index % len(source)], "augment": make}


def torch_functions(source: Source, crop: int) -> dict[str, Callable[[int], object]]:
    """Return the same two functions for PyTorch; empty where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    # As in tests/parity/conftest.py: torchvision's operators need the torch it was built for.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(1)

    class Scale(v2.Transform):
        """Scales height and width by one uniform factor; bilinear without antialiasing."""

        def make_params(self, flat_inputs):
            return {"scale": random.uniform(*_SCALE)}

        def transform(self, inpt, params):
            size = [max(1, round(length * params["scale"])) for length in inpt.shape[-2:]]
            return v2.functional.resize(inpt, size, antialias=False)

    fill = {tv_tensors.Image: TORCH.pad_value, tv_tensors.Mask: IGNORE}
    changes = v2.Compose(
        [Scale(), v2.RandomCrop(crop, pad_if_needed=True, fill=fill), v2.RandomHorizontalFlip()]
    )

    class Images(torch.utils.data.Dataset):
        """Decodes with Pillow, as torchvision's VOCSegmentation."""

        def __init__(self, transform):
            self.transform = transform

        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            image = v2.functional.to_image(Image.open(source.image_file(index)).convert("RGB"))
            mask = tv_tensors.Mask(np.array(Image.open(source.label_file(index))))
            return self.transform(image, mask) if self.transform else (image, mask)

    read, loader = Images(None), torch.utils.data.DataLoader
    endless = torch.utils.data.RandomSampler(read, replacement=True, num_samples=10**9)
    batches = iter(loader(Images(changes), batch_size=_BATCH, sampler=endless))
    return {
        "decode": lambda index: read[index % len(read)],
        "augment": lambda _: next(batches),
    }


def rates(functions: dict[str, Callable], calls: int, images_a_call: int, rounds: int) -> dict:
    """Return each function's median images per second over interleaved rounds, after a warm-up."""
    found = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            for call in range(calls):
                function(number * calls + call)
            if number:
                found[name].append(calls * images_a_call / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Time the two tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="voc2012, camvid, isbi2012 or folder")
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--split", default="train", help="list of images")
    parser.add_argument(
        "--config", default="", help="packed configuration of voc2012: voc, aug or fcn"
    )
    parser.add_argument("--crop", type=int, default=513, help="pixels")
    parser.add_argument("--images", type=int, default=64, help="images read per round")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    options = parser.parse_args()
    config = options.config or ("voc" if options.dataset == "voc2012" else "")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = data.open_source(options.dataset, options.root, options.split)
    first = Subset(folder, tuple(range(min(options.images, len(folder)))))
    kept = cached.cached(first, processes=1)
    for index in range(len(kept)):
        kept[index]
    with tempfile.TemporaryDirectory() as name:
        packed = tfds.pack(options.dataset, options.root, Path(name), config=config)
        contenders = {
            "folder": seg_jax_functions(folder, options.crop),
            "cached": {"augment": seg_jax_functions(kept, options.crop)["augment"]},
            "arrayrecord": seg_jax_functions(
                data.open_source("tfds", packed, options.split), options.crop
            ),
            "torch": torch_functions(folder, options.crop),
        }
        print(
            f"{folder.description}; crop {options.crop}, scale {_SCALE}, flip; images/s, one core"
        )
        for task, images_a_call in (("decode", 1), ("augment", _BATCH)):
            functions = {name: found[task] for name, found in contenders.items() if task in found}
            calls = -(-options.images // images_a_call)
            result = rates(functions, calls, images_a_call, options.rounds)
            cells = [
                f"{name} {rate:7.1f} ({rate / result['folder']:4.2f})"
                for name, rate in result.items()
            ]
            print(f"{task:8} " + "   ".join(cells), flush=True)


if __name__ == "__main__":
    main()
