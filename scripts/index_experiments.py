"""Write experiments/index.json, which `python -m seg_jax list` reads: about half a minute.

Run it after adding or changing an experiment, a published figure, a record or a parity result.
"""

import os

os.environ.pop("SEG_JAX_EXPERIMENTS", None)  # the experiments of this repository only

from seg_jax import experiment  # noqa: E402
from seg_jax.analysis import index  # noqa: E402
from seg_jax.experiments import FOLDER  # noqa: E402

if __name__ == "__main__":
    path = FOLDER / "index.json"
    index.write(experiment.names(), path)
    print(f"wrote {path}")
