import dataclasses
import json
from pathlib import Path

import pytest
from flax import linen as nn

from seg_jax import config


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    folder: Path | None = None


class Net(nn.Module):
    inner: Inner = Inner()
    width: float = 1.0
    sizes: tuple[int, ...] = (1, 2)


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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "os.system"}, "no dataclass"),
        ({"type": "nowhere.Thing"}, "unknown type 'nowhere.Thing'"),
        ({"type": f"{__name__}.Inner", "speed": 1}, r"unknown fields \['speed'\]"),
    ],
)
def test_foreign_types_and_fields_are_refused_by_name(data, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(data)


def test_values_that_json_cannot_hold_are_refused():
    with pytest.raises(TypeError, match="cannot stand in a configuration"):
        config.to_dict(Inner(rate=max))
