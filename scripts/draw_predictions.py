"""Draw the README's image: a synthetic input, its truth, and each family's prediction.

    python -m seg_jax reproduce quick
    python scripts/draw_predictions.py runs/quick

Writes docs/images/quick.png. The networks are those of the suite `quick`: a reduced network of
each family, trained from random weights for some minutes on two CPU cores. Of each family, the
network with the highest mean IoU is shown.
"""

import dataclasses
from pathlib import Path

import tyro
from PIL import Image, ImageDraw, ImageFont

from seg_jax import papers, results
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.results.files import PREDICTIONS

COLUMNS = 6
GAP, CAPTION = 8, 20  # px, between the images and below each


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
    image: str = "v1s0_val_0027"
    out: Path = Path(__file__).parents[1] / "docs" / "images" / "quick.png"
    scale: int = 2


def panels(suite: Path, image: str) -> list[tuple[str, Image.Image]]:
    """Return (caption, image) of the input, the truth, and the prediction of each family."""
    best: dict[str, tuple[float, Path]] = {}
    for record in sorted(suite.glob("*/result.json")):
        found = results.load(record)
        score = found.metrics["mean_iou"] or 0.0
        if (record.parent / PREDICTIONS / f"{image}.prediction.png").is_file():
            best[found.family] = max(best.get(found.family, (-1.0, suite)), (score, record.parent))
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
            right = (images.read_label(path) == truth)[truth != 255].mean()
            caption = f"{caption}: {100 * right:.0f} %"
        drawn.append((caption, Image.fromarray(images.read_image(path))))
    return drawn


def sheet(drawn: list[tuple[str, Image.Image]], scale: int) -> Image.Image:
    """Return the panels in rows of COLUMNS, each above its caption."""
    width, height = (scale * length for length in drawn[0][1].size)
    gap, caption_height = scale * GAP, scale * CAPTION
    rows = -(-len(drawn) // COLUMNS)
    size = (COLUMNS * (width + gap) + gap, rows * (height + caption_height + gap) + gap)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(12 * scale)
    for index, (caption, image) in enumerate(drawn):
        x = gap + index % COLUMNS * (width + gap)
        y = gap + index // COLUMNS * (height + caption_height + gap)
        page.paste(image.resize((width, height), Image.Resampling.NEAREST), (x, y))
        draw.text(
            (x + width // 2, y + height + 3 * scale), caption, fill="black", font=font, anchor="ma"
        )
    return page


if __name__ == "__main__":
    options = tyro.cli(Options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(panels(options.suite, options.image), options.scale).save(options.out, optimize=True)
    print(f"wrote {options.out}")
