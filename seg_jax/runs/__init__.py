"""The folder of a run: its configuration, its checkpoints and its log."""
