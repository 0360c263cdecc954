"""Inference: class probabilities and label maps for images of any size."""
