"""Which suites compare networks only."""

import pytest

from seg_jax import config, experiment, overrides
from seg_jax.reproduce import plan


@pytest.mark.parametrize(
    ("suite", "controlled"),
    [("controlled", True), ("controlled_vgg16", True), ("camvid_scratch", False), ("voc", False)],
)
def test_a_comparison_of_networks_has_one_recipe_but_for_the_rates(suite, controlled):
    chosen = [experiment.get(name) for name in experiment.suite(suite)]
    assert plan.is_controlled(chosen) is controlled
    assert not plan.is_controlled(chosen[:1])


@pytest.mark.parametrize("suite", ["controlled", "controlled_vgg16"])
def test_networks_without_a_decoder_are_scored_with_a_crf_as_well(suite):
    steps = plan.refined(suite)
    names = [step.experiment for step in steps]
    assert len(set(names)) == len(names) >= 3
    assert set(names) < set(experiment.suite(suite))
    for step in steps:
        changed = experiment.get(step.experiment).with_evaluation(**step.evaluation)
        assert changed.evaluation.crf is not None
    assert plan.refined("voc") == plan.refined("no_such_suite") == ()


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("data.cache", True, True),
        ("data.workers", 3, True),
        ("train.log_every", 7, True),
        ("train.seed", 1, False),
        ("optim.base_lr", 0.5, False),
        ("evaluation.flip", True, False),
    ],
)
def test_a_finished_run_is_reused_wherever_its_images_were_kept(field, value, same):
    chosen = experiment.get("unet_synthetic")
    changed = overrides.apply(chosen, {field: value})
    assert plan._same(config.to_dict(changed), chosen) is same
