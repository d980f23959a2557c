"""The documentation site. Sphinx reads Markdown pages; the API reference comes from the docstrings."""

import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))  # for reference_pages

project = "inferencesched"
release = metadata.version(project)
project_copyright = "the inferencesched contributors"

extensions = ["myst_parser", "reference_pages", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"{project} {release}"

myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
default_role = "code"  # docstrings quote names as `name`, as the pages do

# References to our own names must resolve. Foreign ones cannot: the build needs no network, so it has no inventories.
# A type variable (one capital) has nothing to say for itself, and what has an underscore is nobody's business.
nitpick_ignore_regex = [("py:.*", r"(?!inferencesched\b).*|.*\.[A-Z]|.*\._\w+")]
suppress_warnings = ["misc.highlighting_failure"]  # Mermaid is drawn where pages are read, not coloured here

_FieldOfTuple = type(vars(namedtuple("_Any", "field"))["field"])  # noqa: PYI024 — made for the type of its field alone


def _is_left_out(_app: Sphinx, _what: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """Leave out the fields of a named tuple, which its docstring lists; None for no opinion."""
    return True if isinstance(member, _FieldOfTuple) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _is_left_out)
