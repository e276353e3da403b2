"""The command line: ``main`` dispatches, ``commands`` has one module a command, the rest prints."""
