"""Readers of weight files that need no other framework; each returns arrays by name."""
