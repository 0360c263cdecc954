"""Training: the loop, the step, and what the host reports about both."""
