"""From an image of any size to class probabilities at that size."""
