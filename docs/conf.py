"""The documentation site. Sphinx reads Markdown pages; the API reference comes from the docstrings."""

import sys
from importlib import metadata
from pathlib import Path

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
