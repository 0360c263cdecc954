"""What every registered experiment has to satisfy; `test_model_contract.py` runs it over all.

Nearly everything is checked on shapes alone (`jax.eval_shape`), at full size and at the sizes that
the experiment itself trains and evaluates at: it costs seconds, and no memory.
"""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seg_jax import config, data, experiment, inference, losses, optim

SMALL_SIZES = ((65, 81), (97, 129), (188, 204))  # the first that a model takes


@functools.cache
def get(name):
    return experiment.get(name)


def abstract_image(chosen, size, dtype=jnp.float32, n=2):
    return jax.ShapeDtypeStruct((n, *size, chosen.data.preprocessing.channels), dtype)


@functools.cache
def variables_of(name):
    """Shapes of the variables at full size."""
    chosen = get(name)
    return abstract_variables(chosen.model, abstract_image(chosen, chosen.data.augmentation.crop))


def abstract_variables(model, image):
    return jax.eval_shape(
        lambda key, image: model.init(key, image, train=False), jax.random.key(0), image
    )


def by_name(tree):
    """Leaves by "/"-joined path, sorted."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return dict(sorted(zip(names, (leaf for _, leaf in leaves), strict=True)))


def parameter_count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def modules(value):
    """All Linen modules in a configuration."""
    if isinstance(value, tuple):
        return [module for item in value for module in modules(item)]
    if not dataclasses.is_dataclass(value):
        return []
    inner = [module for item in config.fields(value).values() for module in modules(item)]
    return [value, *inner] if isinstance(value, nn.Module) else inner


def check_configuration(name):
    """It survives JSON, its fields are documented, and what it refers to exists."""
    chosen = get(name)
    assert config.from_dict(json.loads(json.dumps(config.to_dict(chosen)))) == chosen
    assert chosen.train.init in ("", *experiment.names()), "train.init names no experiment"
    assert chosen.data.dataset in data.READERS
    inference.check_protocol(chosen)
    for module in modules(chosen.model):
        for field in config.fields(module):
            assert re.search(rf"^\s+{field}: \S", type(module).__doc__, re.MULTILINE), (
                f"{type(module).__name__}'s docstring does not say what its field {field} is"
            )


def check_layers(name):
    """Every layer has a name of its own, and `width` thins the network."""
    chosen = get(name)
    variables = variables_of(name)
    numbered = [path for path in by_name(variables) if re.search(r"(^|/)[A-Z]\w*_\d+/", path)]
    assert not numbered, f"layers without a name: {numbered}"
    image = abstract_image(chosen, chosen.data.augmentation.crop)
    shrunk = abstract_variables(experiment.shrink(chosen.model, width=1 / 32), image)
    assert set(by_name(shrunk)) == set(by_name(variables))
    assert parameter_count(shrunk) < parameter_count(variables) / 2


def check_outputs(name):
    """Logits of the contract's size, at the sizes of training and of evaluation; float32 even from
    a bfloat16 forward pass; the loss finds its heads.
    """
    chosen = get(name)
    variables = variables_of(name)
    image = abstract_image(chosen, chosen.data.augmentation.crop)
    outputs = jax.eval_shape(functools.partial(apply_in_training, chosen), variables, image)
    check_logits(chosen, image, outputs)

    size = inference.input_size((375, 500), chosen.evaluation)
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), variables["params"]
    )
    image = abstract_image(chosen, size, jnp.bfloat16)
    outputs = jax.eval_shape(
        lambda v, x: chosen.model.apply(v, x, train=False), {**variables, "params": params}, image
    )
    check_logits(chosen, image, outputs)


def check_logits(chosen, image, outputs):
    margin = inference.model_margin(chosen.model)
    expected = (
        image.shape[0],
        image.shape[1] - 2 * margin,
        image.shape[2] - 2 * margin,
        chosen.model.num_classes,
    )
    assert "out" in outputs
    for head, logits in outputs.items():
        assert (logits.shape, logits.dtype) == (expected, jnp.float32), head


def apply_in_training(chosen, variables, image):
    key = jax.random.key(0)
    outputs, _ = chosen.model.apply(
        variables, image, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return outputs


def check_initial_experiment(name):
    """The network that `train.init` names gives this one most of its weights."""
    chosen = get(name)
    if not chosen.train.init:
        return
    own, source = by_name(variables_of(name)), by_name(variables_of(chosen.train.init))
    shared = own.keys() & source.keys()
    assert all(own[path].shape == source[path].shape for path in shared)
    assert sum(own[path].size for path in shared) > 0.9 * sum(leaf.size for leaf in own.values())


def golden_text(name):
    """Configuration and parameters, one a line, with the optimiser's multipliers."""
    chosen = get(name)
    variables = variables_of(name)
    lines = ["[configuration]"]
    lines += [
        f"{path} = {json.dumps(value)}"
        for path, value in config.flatten(config.to_dict(chosen)).items()
    ]
    lines += ["", "[parameters: shape, learning-rate and decay multipliers]"]
    multipliers = optim.multipliers(chosen.optim, variables["params"])
    lines += [
        f"{path} {_shape(leaf)} {multipliers[path][0]:g} {multipliers[path][1]:g}"
        for path, leaf in by_name(variables["params"]).items()
    ]
    lines += ["", "[running statistics: shape]"]
    lines += [
        f"{path} {_shape(leaf)}" for path, leaf in by_name(variables.get("batch_stats", {})).items()
    ]
    return "\n".join([*lines, "", f"{parameter_count(variables)} parameters", ""])


def _shape(leaf):
    return "x".join(map(str, leaf.shape))


def random_variables(variables, rng):
    """Values in the place of shapes: He's deviation for kernels, about 1 for scales and variances,
    little for the rest; nothing is zero.
    """

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        if path[-1].key == "kernel":
            value = noise * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            value = (path[-1].key in ("scale", "var")) + 0.05 * noise
        return np.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, variables)


def check_one_update(name, rng):
    """Compiled, on a shrunk network: finite loss, and a gradient for every kernel."""
    chosen = dataclasses.replace(get(name), model=experiment.shrink(get(name).model))
    image, variables = small_input(chosen)
    variables = random_variables(variables, rng)
    num_classes = chosen.model.num_classes
    label = rng.integers(0, num_classes, image.shape[:3]).astype(np.int32)
    image = rng.normal(size=image.shape).astype(np.float32)

    # Compiled without optimisation: it halves the time, and there is but one step to run.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def update(params, image):
        def loss(params):
            outputs = apply_in_training(chosen, {**variables, "params": params}, image)
            check_logits(chosen, image, outputs)
            margin = inference.model_margin(chosen.model)
            total, count = losses.loss_sums(outputs, label, chosen.loss, margin=margin)
            return total / count.astype(jnp.float32)

        return jax.value_and_grad(loss)(params)

    value, gradient = update(variables["params"], image)
    assert np.isfinite(value)
    for path, leaf in by_name(gradient).items():
        assert np.all(np.isfinite(leaf)), path
        assert np.any(leaf) or not path.endswith("kernel"), f"{path} has no gradient"


def small_input(chosen):
    """The smallest image of SMALL_SIZES that the model takes, and its variables' shapes."""
    errors = []
    for size in SMALL_SIZES:
        image = abstract_image(chosen, size)
        try:
            return image, abstract_variables(chosen.model, image)
        except ValueError as error:
            errors.append(str(error))
    raise AssertionError(f"{chosen.name} takes none of {SMALL_SIZES}: {errors}")
