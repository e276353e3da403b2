"""``hpo new``: a working folder for a project of your own."""
