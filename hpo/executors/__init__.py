"""Where trials run: ``base.py`` has the contract, one file a place."""
