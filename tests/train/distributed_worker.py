"""One of several processes that train `tiny.Tiny` together; run by test_distributed."""

import sys

import jax
import numpy as np
import tiny
from jax._src import distributed

from seg_jax import parallel

STEPS = 3


def batches():
    rng = np.random.default_rng(3)
    return [tiny.make_batch(rng) for _ in range(STEPS)]


def connections() -> list[str]:
    """Return the keys that Gloo leaves in the coordinator's store where it connects processes."""
    found = distributed.global_state.client.key_value_dir_get_bytes("cpu:gloo")
    return sorted(key for key, _ in found)


def main(out: str) -> None:
    parallel.initialize_distributed()
    connected = connections()
    count, index = jax.process_count(), jax.process_index()
    share = 8 // count
    mine = [
        {name: value[index * share : (index + 1) * share] for name, value in batch.items()}
        for batch in batches()
    ]
    state, metrics = tiny.run(*tiny.setup(tiny.Tiny()), mine, devices=jax.device_count())
    leaves = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path((state.params, state.batch_stats))
    }
    losses = [m["loss"] for m in metrics]
    both = {"connected": connected, "connected_later": connections()}
    np.savez(f"{out}/{index}.npz", losses=losses, **both, **leaves)


if __name__ == "__main__":
    main(sys.argv[1])
