"""Objectives that train and score by themselves."""
