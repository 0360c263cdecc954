"""What the trials of a sweep cost: the start of the second, and several in one program.

    python scripts/bench_sweep.py start     # from the call of `fit` to the end of the first step
    python scripts/bench_sweep.py stacked   # one after the other, stacked by vmap, one a device
    python scripts/bench_sweep.py compiled  # one, and stacked, compiled for TPU v5e (needs libtpu)

`stacked` and `compiled` take --trials N (4). Process time is given beside wall time: the former is
of use on a machine that does other work.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

NAME = "unet_synthetic"
ROUNDS = 5


def start() -> None:
    """Print how long three trials with different rates take to the end of their first step."""
    from seg_jax import experiment, overrides
    from seg_jax.train import loop, progress

    first_step: list[tuple[float, float]] = []
    add = progress.Report.add

    def noted(self, number, *args, **named):
        if number == 1:
            first_step.append((time.monotonic(), time.process_time()))
        return add(self, number, *args, **named)

    progress.Report.add = noted
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, 4):
            values = {"train.steps": 3 + number, "optim.base_lr": 1e-3 * number}
            chosen = overrides.apply(experiment.get(NAME), values)
            begun = time.monotonic(), time.process_time()
            loop.fit(chosen, Path(folder) / f"trial-{number}", progress=False)
            wall, process = (b - a for a, b in zip(begun, first_step[-1], strict=True))
            show({"trial": number, "seconds": round(wall, 2), "process_seconds": round(process, 2)})


def show(found: dict) -> None:
    """Print a line of JSON."""
    print(json.dumps(found), flush=True)


def parts(trials: int):
    """Return step, states, one batch, and the stacked inputs of trials with different rates."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from seg_jax import experiment, overrides, train_state
    from seg_jax.train import program

    recipe = experiment.get(NAME)
    rates = [1e-3 * (number + 1) for number in range(trials)]
    chosen = [overrides.apply(recipe, {"optim.base_lr": rate}) for rate in rates]
    step = program.per_device_step(program.structure(recipe))
    size, crop = recipe.train.batch_size, recipe.data.augmentation.crop
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (size, *crop, 3), np.uint8),
        "label": rng.integers(0, recipe.model.num_classes, (size, *crop), np.uint8),
    }

    def first(seed):
        shape = (1, *crop, 3)
        variables = train_state.init_variables(recipe.model, input_shape=shape, seed=seed)
        return train_state.init_state(variables, program.optimizer(recipe, variables["params"]))

    keys = jax.random.split(jax.random.key(0), trials)
    inputs = [
        (keys[n], jax.tree.map(jnp.asarray, program.hyperparameters(each)))
        for n, each in enumerate(chosen)
    ]
    return step, first, batch, inputs


def stack(trees: list):
    """Return one tree of arrays with a leading axis of trials."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def programs(trials: int, mesh):
    """Return {name: jitted function} of one trial and of all stacked, over a mesh of one device."""
    import jax
    from jax.sharding import PartitionSpec

    from seg_jax.types import DATA_AXIS

    step, first, batch, inputs = parts(trials)
    replicated, split = PartitionSpec(), PartitionSpec(DATA_AXIS)

    def compiled(function):
        specs = (replicated, split, replicated)
        mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=replicated)
        return jax.jit(mapped)

    stacked = jax.vmap(step, in_axes=(0, None, (0, 0)))
    return {"one": compiled(step), "stacked": compiled(stacked)}, first, batch, inputs


def over_devices(trials: int, step):
    """Return the program of one trial a device, over a mesh (trial, data) of trials x 1 devices."""
    import jax
    from jax.sharding import AxisType, Mesh, PartitionSpec

    from seg_jax.types import DATA_AXIS

    mesh = jax.make_mesh(
        (trials, 1), ("trial", DATA_AXIS), axis_types=(AxisType.Auto,) * 2,
        devices=jax.devices()[:trials],
    )  # fmt: skip
    assert isinstance(mesh, Mesh)
    stacked = jax.vmap(step, in_axes=(0, None, (0, 0)))
    trial, split = PartitionSpec("trial"), PartitionSpec(DATA_AXIS)
    mapped = jax.shard_map(
        stacked, mesh=mesh, in_specs=(trial, split, trial), out_specs=trial, check_vma=False
    )
    return jax.jit(mapped)


def stacked(trials: int) -> None:
    """Time trials one after the other, stacked, and one a (forced CPU) device, interleaved."""
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={trials}"
    )
    import jax

    from seg_jax import parallel

    mesh = parallel.make_mesh(jax.devices()[:1])
    found, first, batch, inputs = programs(trials, mesh)
    states = [first(seed) for seed in range(trials)]
    stacked_state, stacked_inputs = stack(states), stack(inputs)
    spread = over_devices(trials, parts(trials)[0])
    ways = {
        "one after the other": lambda: [
            found["one"](state, batch, each) for state, each in zip(states, inputs, strict=True)
        ],
        "stacked": lambda: found["stacked"](stacked_state, batch, stacked_inputs),
        "one a device": lambda: spread(stacked_state, batch, stacked_inputs),
    }
    for way in ways.values():  # compiles
        jax.block_until_ready(way())
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.monotonic(), time.process_time()
            jax.block_until_ready(way())
            times[name].append((time.monotonic() - begun[0], time.process_time() - begun[1]))
    losses = {
        "one after the other": [float(m["loss"]) for _, m in ways["one after the other"]()],
        "stacked": [float(x) for x in ways["stacked"]()[1]["loss"]],
        "one a device": [float(x) for x in ways["one a device"]()[1]["loss"]],
    }
    for name, pairs in times.items():
        wall, process = (statistics.median(values) for values in zip(*pairs, strict=True))
        show(
            {
                "trials": trials, "way": name, "seconds": round(wall, 3),
                "process_seconds": round(process, 3), "losses": [round(x, 5) for x in losses[name]],
            }
        )  # fmt: skip
    for name, args in (
        ("one", (states[0], batch, inputs[0])),
        ("stacked", (stacked_state, batch, stacked_inputs)),
    ):
        show({"program": name, **_cost(found[name].lower(*args).compile())})


def _cost(program) -> dict:
    memory = program.memory_analysis()
    return {
        "gflops": round(program.cost_analysis()["flops"] / 1e9, 2),
        "temporaries_mib": round(memory.temp_size_in_bytes / 2**20, 1),
    }


def compiled(trials: int) -> None:
    """Print FLOPs, temporaries and the estimated time of one trial and of all for one TPU v5e."""
    from seg_jax.targets import compiling, table, topology

    target = table.get("v5e-8")
    topology.prepare(target)
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from seg_jax import parallel
    from seg_jax.nn import lowering
    from seg_jax.types import DATA_AXIS

    mesh = parallel.make_mesh(topology.describe(target)[:1])
    found, first, batch, inputs = programs(trials, mesh)
    state = first(0)

    def placed(tree, leading, spec):
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*leading, *x.shape), x.dtype, sharding=sharding), tree
        )

    everywhere = PartitionSpec()
    for name, leading in (("one", ()), ("stacked", (trials,))):
        args = (
            placed(state, leading, everywhere),
            placed(batch, (), PartitionSpec(DATA_AXIS)),
            placed(inputs[0], leading, everywhere),
        )
        with lowering.for_platform("tpu"):
            entry = compiling.outcome(
                lambda args=args, name=name: found[name].lower(*args), target, "float32",
                cycles_top=1,
            )  # fmt: skip
        keys = ("status", "error", "flops", "temporaries_bytes", "accessed_bytes",
                "roofline_seconds", "compile_seconds", "cycles")  # fmt: skip
        show({"program": name, **{key: entry[key] for key in keys if key in entry}})


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("start", "stacked", "compiled"))
    parser.add_argument("--trials", type=int, default=4)
    options = parser.parse_args()
    if options.what == "start":
        start()
    else:
        {"stacked": stacked, "compiled": compiled}[options.what](options.trials)


if __name__ == "__main__":
    main()
