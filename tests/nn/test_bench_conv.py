"""scripts/bench_conv.py: the form that is chosen is one of those that it times."""

import importlib.util
import sys
from pathlib import Path

import pytest

from seg_jax.nn import lowering

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_conv.py"


@pytest.fixture(scope="module")
def bench_conv():
    spec = importlib.util.spec_from_file_location("bench_conv", SCRIPT)
    sys.modules["bench_conv"] = module = importlib.util.module_from_spec(spec)  # for its dataclass
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    del sys.modules["bench_conv"]


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_the_chosen_form_is_timed(bench_conv, platform):
    with lowering.for_platform(platform):
        for case in bench_conv.CASES:
            contenders, chosen = case.contenders()
            assert chosen in contenders.values(), case.name
            assert next(iter(contenders)) == "xla"  # what the others are compared with
