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

from seg_jax import config, data, experiment, losses, optim
from seg_jax.inference import windows
from seg_jax.pretrained import catalogue, warm_start

NUMBERED = re.compile(r"(^|/)[A-Z]\w*_\d+/")  # a name that flax makes up
SMALL_SIZES = ((65, 81), (64, 96), (97, 129), (188, 204))  # the first that a model takes


@functools.cache
def get(name):
    return experiment.get(name)


def abstract_image(chosen, size):
    return jax.ShapeDtypeStruct((2, *size, chosen.data.preprocessing.inputs), jnp.float32)


@functools.cache  # for tests of one experiment, and for experiments of one model
def initialise(model, shape):
    """Shapes of (outputs, variables) at full size, for an image of `shape`."""
    return jax.eval_shape(
        lambda key, image: model.init_with_output(key, image, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )


def variables_of(name):
    """Shapes of the variables, as training makes them."""
    chosen = get(name)
    return initialise(chosen.model, crop_of(chosen).shape)[1]


def crop_of(chosen):
    """The image of a training batch."""
    return abstract_image(chosen, chosen.data.augmentation.crop)


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
    known = (*warm_start.SCRATCH, *experiment.names(), *catalogue.names())
    assert chosen.train.init in known, "train.init names neither an experiment nor weights"
    assert chosen.data.dataset in data.names()
    windows.check_evaluation(chosen)
    for module in modules(chosen.model):
        for field in config.fields(module):
            assert re.search(rf"^\s+{field}: \S", type(module).__doc__, re.MULTILINE), (
                f"{type(module).__name__}'s docstring does not say what its field {field} is"
            )


def check_layers(name):
    """Every layer has a name of its own."""
    numbered = [path for path in by_name(variables_of(name)) if NUMBERED.search(path)]
    assert not numbered, f"layers without a name: {numbered}"


def check_outputs(name):
    """Logits of the contract's size: at the size of a training crop, and at that of an evaluation,
    where the pass is one of training in bfloat16: the logits are float32 all the same.
    """
    chosen = get(name)
    crop = crop_of(chosen)
    check_logits(chosen, crop, initialise(chosen.model, crop.shape)[0])
    size = windows.input_size((1, chosen.evaluation.bucket + 1), chosen.evaluation)
    image = abstract_image(chosen, size)
    check_logits(chosen, image, train_in_bfloat16(chosen.model, crop.shape, image.shape))


@functools.cache
def train_in_bfloat16(model, crop_shape, shape):
    """Shapes of the outputs of a network that `crop_shape` initialised, for an image of `shape`."""
    variables = initialise(model, crop_shape)[1]
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), variables["params"]
    )
    return jax.eval_shape(
        functools.partial(apply_in_training, model),
        {**variables, "params": params},
        jax.ShapeDtypeStruct(shape, jnp.bfloat16),
    )


def check_logits(chosen, image, outputs):
    margin = windows.model_margin(chosen.model)
    expected = (
        image.shape[0],
        image.shape[1] - 2 * margin,
        image.shape[2] - 2 * margin,
        chosen.model.num_classes,
    )
    assert "out" in outputs
    for head, logits in outputs.items():
        assert (logits.shape, logits.dtype) == (expected, jnp.float32), head


def apply_in_training(model, variables, image):
    key = jax.random.key(0)
    outputs, _ = model.apply(
        variables, image, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return outputs


def check_initial_experiment(name):
    """`train.init` names a network with this one's backbone, or a former stage of its training,
    which has most of its weights.
    """
    chosen = get(name)
    if chosen.train.init not in experiment.names():
        return
    own, source = by_name(variables_of(name)), by_name(variables_of(chosen.train.init))
    shared = own.keys() & source.keys()
    same = {path for path in shared if own[path].shape == source[path].shape}
    if get(chosen.train.init).family != chosen.family:
        backbone = {path for path in own if "/backbone/" in path}
        assert backbone and backbone <= same
        return
    assert same == shared
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
    """Compiled, on a network shrunk by `width`: finite loss, and a gradient for every kernel."""
    full = variables_of(name)
    chosen = dataclasses.replace(get(name), model=experiment.shrink(get(name).model, width=1 / 32))
    image, variables = small_input(chosen)
    assert set(by_name(variables)) == set(by_name(full))
    assert parameter_count(variables) < parameter_count(full) / 2
    variables = random_variables(variables, rng)
    num_classes = chosen.model.num_classes
    label = rng.integers(0, num_classes, image.shape[:3]).astype(np.int32)
    image = rng.normal(size=image.shape).astype(np.float32)

    # Compiled without optimisation: it halves the time, and there is but one step to run.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def update(params, image):
        def loss(params):
            outputs = apply_in_training(chosen.model, {**variables, "params": params}, image)
            check_logits(chosen, image, outputs)
            margin = windows.model_margin(chosen.model)
            return losses.loss_sums(outputs, label, chosen.loss, margin=margin)[0]

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
            return image, initialise(chosen.model, image.shape)[1]
        except ValueError as error:
            errors.append(str(error))
    raise AssertionError(f"{chosen.name} takes none of {SMALL_SIZES}: {errors}")
