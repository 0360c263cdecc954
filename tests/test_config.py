import dataclasses
import json
from pathlib import Path

import pytest
from flax import linen as nn

from seg_jax import config
from seg_jax.data.config import Augmentation


@config.register_type
@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    folder: Path | None = None


@config.register_type
class Net(nn.Module):
    inner: Inner = Inner()
    width: float = 1.0
    sizes: tuple[int, ...] = (1, 2)


@config.register_type
class Wrapper(nn.Module):
    net: nn.Module
    nets: tuple[nn.Module, ...] = ()


VALUE = Wrapper(net=Net(inner=Inner(0.25, Path("/a b"))), nets=(Net(), Net(width=2.0)))


def test_json_round_trip_gives_an_equal_value():
    data = json.loads(json.dumps(config.to_dict(VALUE)))
    assert config.from_dict(data) == VALUE


def test_linen_bookkeeping_is_no_configuration():
    assert set(config.fields(VALUE)) == {"net", "nets"}
    assert "parent" not in json.dumps(config.to_dict(VALUE))


def test_digest_changes_with_any_leaf_and_only_then():
    same = Wrapper(net=Net(inner=Inner(0.25, Path("/a b"))), nets=(Net(), Net(width=2.0)))
    assert config.digest(same) == config.digest(VALUE)
    for other in (
        dataclasses.replace(VALUE, nets=(Net(), Net(width=2.5))),
        dataclasses.replace(VALUE, nets=(Net(),)),
        dataclasses.replace(VALUE, net=Net()),
    ):
        assert config.digest(other) != config.digest(VALUE)


def test_difference_names_dotted_paths_with_both_values():
    other = dataclasses.replace(VALUE, nets=(Net(), Net(width=3.0)))
    assert config.difference(VALUE, other) == {"nets.1.width": (2.0, 3.0)}
    assert config.difference(VALUE, VALUE) == {}


def test_replace_everywhere_reaches_nested_modules_and_tuples():
    changed = config.replace_everywhere(
        VALUE, lambda node: {"width": 9.0} if isinstance(node, Net) else {}
    )
    assert [changed.net.width, *(net.width for net in changed.nets)] == [9.0, 9.0, 9.0]
    assert changed.net.inner == VALUE.net.inner


INNER, NET = f"{__name__}.Inner", f"{__name__}.Net"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "os.system"}, "unknown type 'os.system'"),
        ({"type": "nowhere.Thing"}, "unknown type 'nowhere.Thing'"),
        ({"type": "pathlib.Path"}, "unknown type"),
        ({"type": "seg_jax.sweep.search.Outcome"}, "unknown type"),  # ours, but no configuration
        ({"type": "seg_jax.experiment.DataConfig"}, "unknown type"),  # imported there, not its own
        ({"type": "seg_jax.models.nothing.Net"}, "unknown type"),
        ({"type": "seg_jax.models.unet.np"}, "unknown type"),
        ({"type": ""}, "unknown type ''"),
        ({"type": 1}, "type should be a name, found 1"),
        ({"type": INNER, "speed": 1}, "Inner has no field 'speed'"),
        ({"type": NET, "parent": None}, "Net has no field 'parent'"),
        ({"type": f"{__name__}.Wrapper"}, "field net of Wrapper is missing"),
        ({"type": INNER, "rate": "fast"}, "rate should be float, found 'fast'"),
        ({"type": INNER, "rate": True}, "rate should be float, found True"),
        ({"type": INNER, "rate": float("nan")}, "rate: no number of up to"),
        ({"type": INNER, "rate": 10**400}, "rate: no number of up to"),
        ({"type": INNER, "folder": 3}, r"folder should be .*Path.*, found 3"),
        (
            {"type": NET, "sizes": [1, "a"]},
            r"sizes should be tuple\[int, \.\.\.\], found \[1, 'a'\]",
        ),
        ({"type": NET, "sizes": [1] * 5000}, "sizes: longer than 4096"),
        ({"type": NET, "inner": {"type": NET}}, "inner should be Inner, found '.*Net'"),
        ({"type": NET, "inner": {"rate": 0.5}}, "inner should be Inner, found an object"),
        ({"type": NET, "inner": {"type": INNER, "rate": []}}, r"inner\.rate should be float"),
    ],
)
def test_foreign_types_fields_and_values_are_refused_by_name(data, message):
    with pytest.raises(ValueError, match=message) as found:
        config.from_dict(data)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("data", "found"), [({}, "an object"), ([], r"\[\]"), (3, "3"), (None, "None"), ("a", "'a'")]
)
def test_what_is_no_configuration_is_refused(data, found):
    with pytest.raises(ValueError, match=f"should describe a Net by its fields, found {found}"):
        config.from_dict(data, Net)


def test_deep_and_large_data_are_refused_before_they_are_built():
    deep: list = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(ValueError, match="more than 40 levels"):
        config.from_dict(deep)
    while deep:  # its own destructor would recurse
        deep = deep[0]
    with pytest.raises(ValueError, match="100000 values"):
        config.from_dict({str(index): [0] * 4000 for index in range(30)})


def test_what_a_types_own_check_raises_names_the_field():
    data = config.to_dict(Augmentation((8, 8)))
    with pytest.raises(ValueError, match="crop_height must be positive, got 0"):
        config.from_dict({**data, "crop": [0, 8]})


def test_only_dataclasses_can_be_registered():
    with pytest.raises(TypeError, match="no dataclass or Linen module"):
        config.register_type(dict)


def test_a_callable_cannot_come_from_a_file():
    with pytest.raises(ValueError, match="kernel_init should be"):
        config.from_dict(
            {"type": "seg_jax.nn.conv.Conv", "features": 1, "kernel_init": "os.system"}
        )


def test_values_that_json_cannot_hold_are_refused():
    with pytest.raises(TypeError, match="cannot stand in a configuration"):
        config.to_dict(Inner(rate=max))
