"""Hyperparameter search: the search, its Optuna study, and one trial."""
