"""Tables, figures and reports of a finished study.

- :mod:`hpo.reporting.tables`: every trial, fold and epoch as rows, for spreadsheets and programs.
- :mod:`hpo.reporting.plots`: figures of the search: optimization history, learning curves, parallel coordinates,
  parameter importance (computed by :mod:`hpo.reporting.importance`).
- :mod:`hpo.reporting.generalization`: whether each trial over-fits or under-fits, from training and validation scores.
- :mod:`hpo.reporting.test_predictions`: predictions of the best model on the test split: classification report,
  confusion matrix, residuals.
"""
