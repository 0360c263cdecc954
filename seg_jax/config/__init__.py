"""Configurations: dataclass values, Linen modules among them, as JSON data and back.

A configuration that is read from a file is built from an allow-list of types (`allowed`), and every
value is checked against the declared type of its field (`build`): reading one runs no code of it.
"""

from seg_jax.config.allowed import register_type, use_package
from seg_jax.config.build import MODULE, from_dict
from seg_jax.config.fits import fits, type_name
from seg_jax.config.former import upgrade
from seg_jax.config.values import (
    difference,
    digest,
    fields,
    flatten,
    replace_everywhere,
    to_dict,
)

__all__ = [
    "MODULE", "difference", "digest", "fields", "fits", "flatten", "from_dict",
    "register_type", "replace_everywhere", "to_dict", "type_name", "upgrade", "use_package",
]  # fmt: skip
