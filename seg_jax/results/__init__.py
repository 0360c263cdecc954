"""Run records: what was measured, on what, how, and by which code."""

from seg_jax.results.files import load, load_records, save
from seg_jax.results.record import Record, Split, Training

__all__ = ["Record", "Split", "Training", "load", "load_records", "save"]
