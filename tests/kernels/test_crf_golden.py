"""The lattices against pydensecrf's marginals of a synthetic scene: no C++ is needed here.

The file is made by `python tests/parity/densecrf.py`, where pydensecrf2 can be built.
"""

import numpy as np
import pytest
from densecrf import GOLDEN, VARIANTS

from seg_jax.kernels.crf import mean_field


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("implementation", ["lattice_numba", "lattice"])
def test_marginals_are_those_of_the_library(name, implementation):
    with np.load(GOLDEN) as golden:
        unary, rgb, theirs = golden["unary"], golden["rgb"], golden[name]
    ours = mean_field(unary, rgb, VARIANTS[name], implementation=implementation)
    assert (theirs.argmax(-1) != unary.argmin(-1)).any(), "a CRF that changes nothing"
    assert (ours.argmax(-1) == theirs.argmax(-1)).all()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
