"""Trials in worker processes of this machine."""
