"""Finished studies → which search is better here, by how much, and how sure that is.

``load.py`` reads studies and ``studies.py`` groups them, ``statistics.py`` tests paired differences, ``curves.py``
follows the best value over trials, epochs and seconds, ``stopping.py`` is the early-stopping ledger, ``comparison.py``
puts all of it together, ``text.py`` and ``pages.py`` show it, and ``command.py`` is ``python -m hpo compare``.
"""
