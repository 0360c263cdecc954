"""Readers of weight files, without their frameworks: arrays by name."""
