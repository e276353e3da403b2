"""Trains and scores the params of a trial on its folds."""
