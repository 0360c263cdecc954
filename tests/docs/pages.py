"""The pages' fenced code blocks, for tests that run them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "seg_jax/kernels/crf/README.md",
)
_FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block: its language, the file that its title names, its text."""

    language: str
    title: str
    text: str


def blocks(page, language=None):
    """Return the page's blocks in order, of one language if it is named."""
    found = [Block(*match) for match in _FENCE.findall(Path(page).read_text(encoding="utf-8"))]
    return [block for block in found if language in (None, block.language)]


def commands(page):
    """Return the lines of the page's bash blocks, continued ones joined."""
    text = "\n".join(block.text for block in blocks(page, "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def write_titled(page, folder):
    """Write the blocks that carry a title as the files that they are."""
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)


def run_bash(page, folder, *, without=None):
    """Run the page's bash blocks in turn, as one session in the folder; return what it printed.

    Blocks that contain `without` are left out.
    """
    found = [block.text for block in blocks(page, "bash")]
    script = "\n".join(text for text in found if without is None or without not in text)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(folder / ".cache"),
        "XLA_FLAGS": "",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, text=True, capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def draw_own_data(root, *, images=40, size=(72, 96), seed=0):
    """Draw a user's images and masks: discs (1) and bars (2) before a noisy ground (0)."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows, columns = np.indices(size)
    for index in range(images):
        label = np.zeros(size, np.uint8)
        y, x, radius = rng.integers(16, 56), rng.integers(16, 80), rng.integers(8, 16)
        label[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
        left = rng.integers(4, 84)
        label[rng.integers(4, 30) :, left : left + 8] = 2
        colours = np.array([(60, 90, 60), (200, 60, 50), (60, 80, 210)])
        image = colours[label] + rng.normal(0, 20, (*size, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"images/{index:03}.jpg")
        Image.fromarray(label).save(root / f"masks/{index:03}.png")
    (root / "classes.txt").write_text("background\ndisc\nbar\n")
