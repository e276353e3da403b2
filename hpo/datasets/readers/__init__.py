"""Readers shared by datasets."""
