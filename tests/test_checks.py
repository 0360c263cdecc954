import re
import time

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
        (lambda: checks.at_most(3, side=4), "side must be at most 3, got 4"),
        (lambda: checks.at_most(3, side=float("nan")), "side must be at most 3, got nan"),
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


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0b", "a\nb", "\udcff"])
def test_names_out_of_files_are_one_component_of_a_path(name):
    with pytest.raises(checks.UserError, match="^run '.*' cannot be the name of a file: ") as found:
        checks.path_component(name, "run")
    assert str(found.value).isprintable()


def test_ordinary_names_are_path_components():
    for name in ("trial-0001", "fcn8s_vgg16_voc", "..a", "Zürich 2026"):
        assert checks.path_component(name) == name


def test_control_characters_are_shown_escaped():
    assert checks.printable("a\x1b[2Jb\nready\u202e\udcff") == r"a\x1b[2Jb\nready\u202e\udcff"
    assert checks.printable("Zürich\n\tb\r", lines=True) == "Zürich\n\tb\\r"
    assert checks.printable(checks.UserError("a\x07")) == r"a\x07"


def test_unknown_without_a_close_name_lists_all():
    assert checks.unknown("zzz", ["b", "a"]) == "unknown name 'zzz'; known: a, b"
    many = checks.unknown("zzz", "abcdefgh")
    assert many == "unknown name 'zzz'; known: a, b, c, d, e and 3 more"


def test_logits_and_label_must_fit():
    checks.logits_shape(np.zeros((2, 4, 5, 21)), np.zeros((2, 4, 5)))
    with pytest.raises(ValueError, match=r"\(2, 4, 5, 21\) and label \(2, 4, 6\) do not fit"):
        checks.logits_shape(np.zeros((2, 4, 5, 21)), np.zeros((2, 4, 6)))


@pytest.mark.parametrize(
    "text",
    ["(a|a)*b", "(.*)+", r"(\w+/)*kernel", "(a){9}", ".*.*.*.*.*.*x", "a" * 301, "(", "[z-a]"],
)
def test_patterns_that_may_take_for_ever_are_refused(text):
    with pytest.raises(ValueError, match="pattern"):
        checks.pattern(text)


def test_ordinary_patterns_pass_and_the_slowest_is_fast():
    for text in (".*/bias", r"fc8(_\d)?/kernel", "(out|aux)_head/.*/bn/.*", r"[(*+{]\)\*\+", ""):
        checks.pattern(text)
    checks.pattern(slowest := ".*.*.*.*.*x")
    began = time.monotonic()
    assert not re.fullmatch(slowest, "backbone/block3_unit22/conv2/bn/scale" * 2)
    assert time.monotonic() - began < 60  # about 1 s: bounded, not exponential
