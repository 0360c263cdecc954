"""Ready search spaces: `python -m seg_jax sweep NAME --space experiments.sweeps:poly_lr`.

Trials are pruned where the experiment scores itself on the way: add `--train.evaluate-every 200`.

A space names fields of the experiment it is used with; `Choice`, `Integer`, `Uniform` and
`LogUniform` say over which values. To search over something else, write a Space anywhere that
Python can import it from.
"""

from seg_jax.search_space import Choice, Integer, LogUniform, Space, Uniform

# The learning rate, over two orders of magnitude around 1e-2: of every recipe the first question.
learning_rate = Space({"optim.base_lr": LogUniform(1e-3, 1e-1, points=5)})

# DeepLab v2's schedule (section 4.1.1 there compares it with steps): rate and power.
poly_lr = Space(
    {
        "optim.base_lr": LogUniform(1e-3, 1e-1, points=5),
        "optim.schedule.kind": Choice(("poly",)),
        "optim.schedule.power": Uniform(0.5, 1.5),
    }
)

# Caffe's optimiser: with a momentum of 0.99 the rate that fits is a tenth of that with 0.9.
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

# Whether the rate grows with the batch, as Goyal et al. 2017 found (arXiv 1706.02677).
batch_size = Space(
    {
        "train.batch_size": Choice((4, 8, 16)),
        "optim.base_lr": LogUniform(1e-3, 1e-1, points=5),
    }
)

# What is seen of an image: the range of scales, and whether it is mirrored.
augmentation = Space(
    {
        "data.augmentation.scale": Choice(((1.0, 1.0), (0.75, 1.25), (0.5, 1.5), (0.5, 2.0))),
        "data.augmentation.flip": Choice((0.0, 0.5)),
    }
)

# How much of the result is luck: the same recipe from several seeds.
seeds = Space({"train.seed": Integer(0, 4)})
