"""Where data comes from: ``base.py`` has the contract, one file a source."""
