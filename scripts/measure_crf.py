"""Measure how much the dense CRF improves the scores on a split: mIoU, trimap mIoU and time.

    python scripts/measure_crf.py deeplabv3.tflite --root data/voc2012 --every 1

All CRFs refine the same probabilities, in turn, so that the machine's load is the same for all.
Writes experiments/crf_worth.json, from which scripts/render_readme.py makes the README's table.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from seg_jax import data, metrics, pretrained
from seg_jax.evaluation.run import describe
from seg_jax.inference import forward, protocols
from seg_jax.kernels.crf import presets
from seg_jax.report import crf_table
from seg_jax.results import provenance
from seg_jax.results.record import counts_of

TRIMAP_PX = (1, 2, 3, 5, 10, 20, 40)


def main(
    weights: tyro.conf.Positional[Path],
    *,
    root: Path,
    every: int = 1,
    constants: tuple[str, ...] = ("deeplab_v2_resnet101",),
    normalisations: tuple[str, ...] = ("after", "symmetric"),
    implementations: tuple[str, ...] = ("lattice_numba",),
    out: Path = Path(__file__).parents[1] / "experiments" / "crf_worth.json",
) -> None:
    """Measure several constants, normalisations and implementations, and the scores without a CRF.

    Args:
      weights: published weights, a release or a run.
      root: VOC's folder.
      every: use one in this many images of val.
      constants: names as in `evaluate --help`; the first with all normalisations, further ones
        with the first normalisation only.
      normalisations: of the kernels.
      implementations: of `kernels.crf.mean_field`.
      out: file of measurements to add to.
    """
    made_by = provenance.of_this_process()  # before the run: of the code that is measured
    loaded = pretrained.load(weights)
    source = data.open_source("voc2012", root, "val")
    indices = range(0, len(source), every)
    settings = [
        (name, dataclasses.replace(presets.get(name), normalisation=how), implementation)
        for name in constants
        for how in (normalisations if name == constants[0] else normalisations[:1])
        for implementation in implementations
    ]
    sums = [metrics.Scores.zero(len(source.classes), TRIMAP_PX) for _ in range(len(settings) + 1)]
    seconds: list[list[float]] = [[] for _ in settings]
    seen: set = set()
    for index in tqdm(indices, unit="image"):
        example = source[index]
        image, label = example["image"], example["label"]
        shares = forward.predict_probabilities(loaded.experiment, loaded.variables, image)
        found = [shares]
        for (_, params, implementation), spent in zip(settings, seconds, strict=True):
            refine = presets.refine(params, implementation=implementation)
            if (key := (image.shape, params, implementation)) not in seen:
                seen.add(key)
                _warm_up(refine, implementation, image, shares)
            started = time.perf_counter()
            found.append(refine(image, shares))
            spent.append(time.perf_counter() - started)
        for position, refined in enumerate(found):
            prediction = refined.argmax(-1).astype(np.uint8)
            sums[position] += metrics.of_image(label, prediction, source.classes, TRIMAP_PX)
    new = crf_table.Measurement(
        weights=loaded.name or weights.name,
        cutting=protocols.words(loaded.experiment.evaluation),
        data=describe(source),
        pictures=len(indices),
        classes=tuple(source.classes),
        rows=tuple(_rows(settings, sums, seconds)),
        **made_by,
    )
    crf_table.save(out, new)
    print(crf_table.markdown([new]))


def _warm_up(refine: Callable, implementation: str, image: np.ndarray, shares: np.ndarray) -> None:
    """Compile before the timed call: XLA for each size, Numba once.

    "exact" is not run twice: it takes minutes, and its compilation only seconds.
    """
    if implementation in ("lattice_numba", "exact_numba"):
        image, shares = image[:8, :8], shares[:8, :8]
    if implementation != "exact":
        refine(image, shares)


def _rows(settings: list, sums: list[metrics.Scores], seconds: list[list[float]]):
    yield crf_table.Row("", "", "", None, counts_of(sums[0]))
    for (name, params, implementation), total, spent in zip(
        settings, sums[1:], seconds, strict=True
    ):
        median = round(statistics.median(spent), 4)
        yield crf_table.Row(name, params.normalisation, implementation, median, counts_of(total))


if __name__ == "__main__":
    tyro.cli(main)
