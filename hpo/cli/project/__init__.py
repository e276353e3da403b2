"""``hpo new``: create a project folder with your own model and data."""
