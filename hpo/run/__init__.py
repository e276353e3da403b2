"""Runs one study."""
