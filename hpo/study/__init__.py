"""Builds a study from its config."""
