"""Comparisons of finished studies: which level of a factor is better, by how much, and how certain that is.

============================  ========================================================================
question                      module
============================  ========================================================================
what the user asks for        ``spec.py``: the words of ``python -m hpo compare``
reading studies from MLflow   ``load.py``, ``studies.py``
which studies are comparable  ``eligibility.py``: the rules; ``groups.py``: the largest comparable group
p-values and intervals        ``statistics.py``: one paired test, adjusted p-values, power
verdicts                      ``verdicts.py``: one verdict for each pair; ``conclusion.py``: the sentence
interim analyses              ``ledger.py``: where they are recorded; ``spending.py``: alpha spending
numbers of a report           ``comparison.py``, from ``levels.py``, ``curves.py``, ``early_stopping.py``
several tasks                 ``tasks.py``: ranks, Friedman's test, critical differences
reports                       ``report.py``: tables and notes; ``figures.py``: plots; ``pages.py``: files
terminal and tables           ``screen.py``; ``export.py``: every trial, fold and epoch
commands                      ``command.py``: ``compare``; ``trials.py``: ``trials``
============================  ========================================================================
"""
