"""One objective, many engines: hyperparameter searches that can be compared."""

__version__ = "0.1.0"
