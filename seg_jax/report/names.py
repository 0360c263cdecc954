"""What runs are called where there is little room, as below a picture."""

from collections.abc import Sequence

from seg_jax import papers
from seg_jax.report import rows
from seg_jax.results import Record


def short(records: Sequence[Record]) -> list[str]:
    """Return the runs' architectures, as "FCN-32s"; of runs that share one, their labels.

    Args:
      records: one a run.
    """
    titles = [papers.title(record.experiment, record.family) for record in records]
    if len(set(titles)) == len(titles):
        return titles
    return rows.labels(records)
