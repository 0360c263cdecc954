"""Draw an image, its truth, and each family's prediction, such as the README's image:

    python -m seg_jax reproduce quick
    python scripts/draw_predictions.py runs/quick

writes docs/images/quick.png, from reduced networks that are trained for a minute or two on two CPU
cores. Of each family, the network with the highest mean IoU is shown. Thin white lines are drawn
where the class changes, and void is white.

    python -m seg_jax reproduce controlled
    python scripts/draw_predictions.py runs/controlled --image Seq05VD_f04920 --scale 1 \\
        --out runs/controlled/predictions.jpg

draws one of the images on which the heads differ most (runs/controlled/pictures).
"""

import dataclasses
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from seg_jax import papers, results
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.results.files import PREDICTIONS
from seg_jax.types import IGNORE

COLUMNS = 4
GAP = 6  # px, between the images


@dataclasses.dataclass(frozen=True)
class Options:
    """Draw the predictions of a suite's runs for one image, side by side.

    Attributes:
      suite: folder of the suite's runs.
      image: id of the image, as in RUN/predictions.
      out: file to write.
      scale: enlargement of the image.
    """

    suite: tyro.conf.Positional[Path]
    image: str = "v2s0_val_0040"
    out: Path = Path(__file__).parents[1] / "docs" / "images" / "quick.png"
    scale: int = 2


def panels(suite: Path, image: str) -> list[tuple[str, Image.Image]]:
    """Return (caption, image) of the input, the truth, and the prediction of each family."""
    best: dict[str, tuple[float, Path]] = {}
    for record in sorted(suite.glob("*/result.json")):
        found = results.load(record)
        score = found.metrics["mean_iou"] or 0.0
        for run in (record.parent, suite / "pictures" / record.parent.name):
            if (run / PREDICTIONS / f"{image}.prediction.png").is_file():
                best[found.family] = max(best.get(found.family, (-1.0, suite)), (score, run))
    if not best:
        raise UserError(f"{suite}: no run here predicted {image}; see RUN/{PREDICTIONS}")
    first = next(iter(best.values()))[1] / PREDICTIONS
    shown = [("input", first / f"{image}.input.jpg"), ("truth", first / f"{image}.truth.png")]
    shown += [
        (family, best[family][1] / PREDICTIONS / f"{image}.prediction.png")
        for family in papers.FAMILIES
        if family in best
    ]
    truth = images.read_label(first / f"{image}.truth.png")
    drawn = []
    for caption, path in shown:
        if path.name.endswith(".prediction.png"):
            right = (images.read_label(path) == truth)[truth != IGNORE].mean()
            caption = f"{caption}: {100 * right:.0f} %"
        drawn.append((caption, Image.open(path)))
    return drawn


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    """Return an image in RGB, `scale` times as large; labels with lines between classes."""
    width, height = (scale * side for side in image.size)
    if image.mode != "P":
        return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    label = np.kron(np.asarray(image), np.ones((scale, scale), np.uint8))
    colours = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST))
    edge = label == IGNORE
    edge[1:] |= label[1:] != label[:-1]
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    return Image.fromarray(np.where(edge[..., None], np.uint8(255), colours))


def sheet(drawn: list[tuple[str, Image.Image]], scale: int) -> Image.Image:
    """Return the panels in rows of COLUMNS, each above its caption."""
    width, height = (scale * length for length in drawn[0][1].size)
    gap, text = scale * GAP, max(12 * scale, width // 20)  # px; the page may be shown at half size
    caption_height = text * 4 // 3
    rows = -(-len(drawn) // COLUMNS)
    size = (COLUMNS * (width + gap) + gap, rows * (height + caption_height + gap) + gap)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(text)
    for index, (caption, image) in enumerate(drawn):
        x = gap + index % COLUMNS * (width + gap)
        y = gap + index // COLUMNS * (height + caption_height + gap)
        page.paste(enlarged(image, scale), (x, y))
        place = (x + width // 2, y + height + text // 4)
        draw.text(place, caption, fill="black", font=font, anchor="ma")
    return page


if __name__ == "__main__":
    options = tyro.cli(Options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = sheet(panels(options.suite, options.image), options.scale)
    drawn.save(options.out, optimize=True, quality=88)
    print(f"wrote {options.out}")
