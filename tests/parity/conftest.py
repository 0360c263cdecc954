"""Parity with PyTorch: `bash scripts/test_parity.sh` installs torch beside seg_jax and runs these.

`parity_record` collects every error; with SEG_JAX_WRITE_PARITY=1 they go to experiments/parity.json
at the end, which `list` and the table read as the state of evidence.
"""

import datetime
import json
import os
import sys
from pathlib import Path

import jax
import pytest

RECORDS = Path(__file__).parents[2] / "experiments" / "parity.json"
_records = {}

try:
    import torch
except ImportError:
    torch = None  # every test here skips, see torch_parity.py
else:
    torch.set_num_threads(2)
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its wheel finds its compiled operators only with the torch it was built for. Its import
        # asks for the schemas of two of them; no network here uses either.
        for _name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[_name]
        _library = torch.library.Library("torchvision", "DEF")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except ImportError:
        pass


@pytest.fixture
def parity_record():
    """A function that checks one relative error and keeps it for the records."""

    def record(name, reference, what, error, tolerance=1e-4):
        entry = _records.setdefault(name, {"reference": reference, "errors": {}})
        assert entry["reference"] == reference, f"{name} has two references: record it as two parts"
        entry["errors"][what] = float(f"{error:.2g}")
        assert error <= tolerance, f"{name}, {what}: relative error {error:.2g} to {reference}"

    return record


def pytest_sessionfinish():
    if not _records or os.environ.get("SEG_JAX_WRITE_PARITY") != "1":
        return
    run = {
        "command": "bash scripts/test_parity.sh",
        "date": datetime.date.today().isoformat(),
        "jax": jax.__version__,
        "torch": torch.__version__,
    }
    records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    for name, entry in _records.items():
        before = records.get(name, {}).get("errors", {})  # of an earlier run of some other tests
        records[name] = {**entry, "errors": {**before, **entry["errors"]}, **run}
    RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
