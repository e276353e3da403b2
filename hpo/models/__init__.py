"""What can be trained: ``base.py`` has the contract, one file a family."""
