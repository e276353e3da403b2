"""The record of a study: written to an outbox file, delivered to MLflow, and read back."""
