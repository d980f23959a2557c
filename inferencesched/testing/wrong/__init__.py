"""Deliberately wrong plugins: one for each clause, caught by that clause and by no other.

A suite that has never failed proves nothing. `WRONG` is what the checks are checked with; read the modules as lists of
the mistakes that are easy to make.
"""

from inferencesched.testing.wrong import (
    detectors,
    filters,
    gating,
    handlers,
    observers,
    pickers,
    producers,
    questions,
    queueing,
    scorers,
    turns,
)
from inferencesched.testing.wrong.enlisted import WRONG, Wrong

__all__ = [
    "WRONG",
    "Wrong",
    "detectors",
    "filters",
    "gating",
    "handlers",
    "observers",
    "pickers",
    "producers",
    "questions",
    "queueing",
    "scorers",
    "turns",
]
