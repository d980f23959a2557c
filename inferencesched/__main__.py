"""``python -m inferencesched``: the command line."""

from inferencesched.cli import main

main()
