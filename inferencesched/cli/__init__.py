"""The command line. `main` is the click group; without the `cli` extra it says what to install.

Importing this package never fails for want of the extra, so that entry points and documentation tools can.
"""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["main"]

_missing = [module for module in ("click", "jinja2", "matplotlib", "rich", "yaml") if find_spec(module) is None]

if not _missing:
    from inferencesched.cli.group import main
else:

    def main() -> None:  # type: ignore[misc] # the command itself, when it can be made
        """Say what to install, and end with exit code 1."""
        raise SystemExit(
            f"inferencesched: the command line needs {', '.join(_missing)}, not installed here.\n"
            "Install it with: pip install 'inferencesched[cli]'"
        )
