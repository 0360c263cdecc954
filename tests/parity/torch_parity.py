"""One comparison for every network: logits, running statistics and gradients, ours and torch's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.types import IGNORE

torch = pytest.importorskip("torch", reason="no torch here: bash scripts/test_parity.sh has it")
pytest.importorskip("torchvision", reason="no torchvision: bash scripts/test_parity.sh has it")


def relative_error(actual, expected):
    """Largest absolute difference over the largest absolute value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    assert np.all(np.isfinite(expected)) and np.any(expected)
    return float(abs(actual - expected).max() / abs(expected).max())


def randomise(module, seed=0):
    """Draw every weight and statistic of a torch module; activations keep about their size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, mean, deviation):
        tensor.copy_(mean + deviation * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if tensor.ndim > 1:
                normal(tensor, 0.0, (1.5 / tensor[0].numel()) ** 0.5)
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim == 1:
                scale = name.endswith("weight")
                normal(tensor, 0.8 if scale else 0.0, 0.1)
    return module


def state_of(module):
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def image_of(size, seed=0, n=1):
    return np.random.default_rng(seed).normal(size=(n, *size, 3)).astype(np.float32)


def label_of(size, seed=0, n=1, num_classes=21):
    """Blocks of classes with a fifth of void."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, (n, *size))
    return np.where(rng.random(label.shape) < 0.2, IGNORE, label).astype(np.int32)


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def evaluation_error(module, model, variables, size, head="out"):
    """Relative error of the logits in evaluation mode."""
    image = image_of(size)
    module.eval()
    with torch.no_grad():
        expected = nhwc(_outputs(module(nchw(image)))[head])
    actual = jax.jit(lambda v, x: model.apply(v, x, train=False)[head])(variables, image)
    return relative_error(actual, expected)


def training_errors(
    module, model, import_state, size, *, heads, n=2, cancelled="", forward_dtype="float32"
):
    """Relative errors of a training step's logits, running statistics and gradients.

    Logits and statistics in `forward_dtype`, gradients in float64: they jump where a ReLU or a
    maximum changes sides, and after fifty layers float32's rounding moves some activation across
    zero in one of two correct implementations. (The shared weights are float32 numbers in both.)

    Args:
      module: torch network, without dropout.
      model: ours, without dropout.
      import_state: state dict -> our variables; gradients go through it as weights do.
      size: (height, width).
      heads: ((output, loss weight), ...).
      n: images.
      cancelled: regular expression for the names of parameters without influence, as a bias before
        a norm of the batch: their gradient is rounding, and has to be that small.
      forward_dtype: "float64" where norms of the batch amplify rounding over too many layers.

    Returns:
      {"training logits": of all heads, "running statistics": of all norms, "gradients (float64)":
      the worst parameter's}, each the largest difference over the largest value of its tensor.
    """
    margin = getattr(model, "margin", 0)
    image, label = image_of(size, n=n), label_of([side - 2 * margin for side in size], n=n)
    before = {name: tensor.copy() for name, tensor in state_of(module).items()}
    variables = import_state(before)
    module.train().to(getattr(torch, forward_dtype))
    values = jax.tree.map(lambda leaf: np.asarray(leaf, forward_dtype), variables)
    heads_of_loss = [head for head, _ in heads]
    errors = _forward_errors(
        module, model, import_state, values, image.astype(forward_dtype), heads_of_loss
    )
    if forward_dtype != "float32":
        errors = {f"{what} ({forward_dtype})": error for what, error in errors.items()}

    module.double()
    expected = _outputs(module(nchw(image).double()))
    truth = torch.from_numpy(label).long()
    criterion = torch.nn.functional.cross_entropy
    sum(w * criterion(expected[h], truth, ignore_index=IGNORE) for h, w in heads).backward()
    expected = import_state({**before, **{k: p.grad.numpy() for k, p in module.named_parameters()}})

    def loss(params, statistics, image):
        variables = {"params": params, "batch_stats": statistics}
        outputs, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
        return sum(weight * _cross_entropy(outputs[head], label) for head, weight in heads)

    with jax.enable_x64(True):
        wide = jax.tree.map(np.float64, variables)
        statistics = wide.get("batch_stats", {})
        actual = jax.jit(jax.grad(loss))(wide["params"], statistics, np.float64(image))
    return {**errors, "gradients (float64)": _worst(actual, expected["params"], cancelled)}


def _forward_errors(module, model, import_state, variables, image, heads):
    """Errors of one training-mode pass: the logits of all heads, the statistics after it."""
    counts = _count_values(module)
    before = {name: tensor.copy() for name, tensor in state_of(module).items()}
    expected = _outputs(module(nchw(image)))
    forward = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    with jax.enable_x64(image.dtype == np.float64):
        outputs, changed = forward(variables, image)
    errors = {"training logits": max(relative_error(outputs[h], nhwc(expected[h])) for h in heads)}
    if counts:
        after = _with_biased_variances(before, state_of(module), counts)
        statistics = import_state(after)["batch_stats"]
        errors["running statistics"] = _worst(changed["batch_stats"], statistics)
    return errors


def _cross_entropy(logits, label):
    """The mean over the valid pixels, as torch's; `seg_jax.losses` has tests of its own."""
    valid = label != IGNORE
    truth = np.where(valid, label, 0)[..., None]
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), truth, axis=-1)[..., 0]
    return -jnp.sum(picked, where=valid) / float(valid.sum())


def _outputs(result):
    return result if isinstance(result, dict) else {"out": result}


def _count_values(module):
    """Let every norm write down how many values of each channel it normalises over."""
    counts = {}

    def note(name):
        return lambda _, inputs: counts.update({name: inputs[0].numel() // inputs[0].shape[1]})

    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_pre_hook(note(name))
    return counts


def _with_biased_variances(before, after, counts, momentum=0.1):
    """The state dict after a step, as if the running variances averaged biased variances.

    torch normalises by the biased variance of the batch, but averages the unbiased one, which is
    n / (n - 1) times larger; ours, as TensorFlow's, averages the biased one.
    """
    state = dict(after)
    for name, n in counts.items():
        key = f"{name}.running_var"
        kept = (1 - momentum) * before[key]
        state[key] = kept + (after[key] - kept) * (n - 1) / n
    return state


def _worst(actual, expected, cancelled=""):
    """The largest relative error of a tensor."""
    largest = max(abs(leaf).max() for leaf in jax.tree.leaves(expected))

    def error(path, actual, expected):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not re.fullmatch(cancelled, name):
            return relative_error(actual, expected)
        rounding = max(abs(np.asarray(leaf)).max() for leaf in (actual, expected))
        assert rounding < 1e-12 * largest, name
        return 0.0

    return max(jax.tree.leaves(jax.tree_util.tree_map_with_path(error, actual, expected)))
