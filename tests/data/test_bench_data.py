"""The benchmark runs on a tiny data set (its figures mean nothing)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_data.py"


def test_it_prints_both_tasks(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(5):
        Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "classes.txt").write_text("sky\n")
    command = [sys.executable, SCRIPT, "folder", tmp_path, "--crop", "7", "--rounds", "1"]
    done = subprocess.run([*command, "--images", "8"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    title, decode, augment = done.stdout.splitlines()[-3:]
    assert "4 images; crop 7" in title
    for line in (decode, augment):
        assert "folder" in line and "(1.00)" in line and "arrayrecord" in line
    assert "cached" in augment and "cached" not in decode
