"""Score networks on a split: the loop, records of runs and of published weights, submissions."""
