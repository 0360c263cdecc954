"""Ready search spaces: `python -m seg_jax sweep NAME --space experiments.sweeps:poly_lr`.

Trials can only be pruned if they are evaluated during training: add `--train.evaluate-every 200`.

A space maps fields of an experiment to distributions of values: `Choice`, `Integer`, `Uniform` or
`LogUniform`. Your own Space can be in any module that Python can import.
"""

from seg_jax.search_space import Choice, Integer, LogUniform, Space, Uniform

# The learning rate, the first setting to tune, over two orders of magnitude around 1e-2.
learning_rate = Space({"optim.base_lr": LogUniform(1e-3, 1e-1, points=5)})

# Suite `controlled`: six rates, the same for every head (6 trials, --sampler grid).
controlled_lr = Space({"optim.base_lr": Choice((0.001, 0.002, 0.005, 0.01, 0.03, 0.06))})

# Rate and power of DeepLab v2's schedule (its section 4.1.1 compares it with steps).
poly_lr = Space(
    {
        "optim.base_lr": LogUniform(1e-3, 1e-1, points=5),
        "optim.schedule.kind": Choice(("poly",)),
        "optim.schedule.power": Uniform(0.5, 1.5),
    }
)

# Caffe's optimiser: the best rate with a momentum of 0.99 is a tenth of that with 0.9.
sgd = Space(
    {
        "optim.base_lr": LogUniform(1e-4, 1e-1, points=4),
        "optim.momentum": Choice((0.9, 0.95, 0.99)),
        "optim.weight_decay": LogUniform(1e-5, 1e-3),
    }
)

adamw = Space(
    {
        "optim.optimizer": Choice(("adamw",)),
        "optim.base_lr": LogUniform(1e-5, 1e-2, points=4),
        "optim.weight_decay": LogUniform(1e-5, 1e-1),
    }
)

# Whether the best rate grows with the batch size, as in Goyal et al. 2017 (arXiv 1706.02677).
batch_size = Space(
    {
        "train.batch_size": Choice((4, 8, 16)),
        "optim.base_lr": LogUniform(1e-3, 1e-1, points=5),
    }
)

# Augmentation: the range of scales, and whether images are mirrored.
augmentation = Space(
    {
        "data.augmentation.scale": Choice(((1.0, 1.0), (0.75, 1.25), (0.5, 1.5), (0.5, 2.0))),
        "data.augmentation.flip": Choice((0.0, 0.5)),
    }
)

# Random variation of the result: the same recipe with several seeds.
seeds = Space({"train.seed": Integer(0, 4)})
