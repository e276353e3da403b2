"""Ways of searching: ``base.py`` has the contract, one file a backend."""
