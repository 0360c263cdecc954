"""Compiled kernels of the CRF are kept where nobody else can have put them."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

PROGRAM = """
from seg_jax.kernels.crf import exact_numba_kernels, lattice_numba_kernels
from seg_jax.kernels.numba_options import OPTIONS
import numpy as np
lattice_numba_kernels.transpose(np.zeros((2, 3), np.int32), 1)
print(OPTIONS["cache"])
"""


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_kernels_are_kept_in_a_private_folder_only(tmp_path, mode):
    folder = tmp_path / "numba"
    folder.mkdir(mode=0o700)
    folder.chmod(mode)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    kept = [path for path in folder.rglob("*") if path.is_file()]
    if mode == 0o700:
        assert found.stdout.strip() == "True" and kept
    else:
        assert found.stdout.strip() == "False" and not kept
        assert f"chmod go-w {folder}" in found.stderr
