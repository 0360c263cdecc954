"""Which suites compare networks only."""

import pytest

from seg_jax import experiment
from seg_jax.reproduce import plan


@pytest.mark.parametrize(
    ("suite", "controlled"),
    [("controlled", True), ("controlled_vgg16", True), ("camvid_scratch", False), ("voc", False)],
)
def test_a_comparison_of_networks_has_one_recipe_but_for_the_rates(suite, controlled):
    chosen = [experiment.get(name) for name in experiment.suite(suite)]
    assert plan.is_controlled(chosen) is controlled
    assert not plan.is_controlled(chosen[:1])
