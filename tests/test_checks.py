import numpy as np
import pytest

from seg_jax import checks


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checks.positive(steps=0), "steps must be positive, got 0"),
        (lambda: checks.non_negative(decay=-1.0), "decay must not be negative, got -1.0"),
        (lambda: checks.fraction(flip=1.5), r"flip must lie in \[0, 1\], got 1.5"),
        (lambda: checks.fraction(flip=float("nan")), "got nan"),
        (lambda: checks.one_of(("poly", "step"), kind="polly"), "did you mean poly"),
    ],
)
def test_the_error_names_argument_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_valid_values_pass():
    checks.positive(a=1, b=0.5)
    checks.non_negative(a=0)
    checks.fraction(a=0, b=1)
    checks.one_of(("poly", "step"), kind="step")


def test_unknown_without_a_close_name_lists_all():
    assert checks.unknown("zzz", ["b", "a"]) == "unknown name 'zzz'; known: a, b"


def test_logits_and_label_must_fit():
    checks.logits_shape(np.zeros((2, 4, 5, 21)), np.zeros((2, 4, 5)))
    with pytest.raises(ValueError, match=r"\(2, 4, 5, 21\) and label \(2, 4, 6\) do not fit"):
        checks.logits_shape(np.zeros((2, 4, 5, 21)), np.zeros((2, 4, 6)))
