"""Tables, plots and reports that a study leaves behind."""
