"""Hyperparameter searches with scikit-learn, Keras Tuner, Optuna, Hyperopt and Ray Tune that can be compared."""

__version__ = "0.1.0"
