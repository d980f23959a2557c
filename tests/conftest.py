"""What holds for every test: the hypothesis profiles, and what the API reference shows."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are shared: a deadline in milliseconds would measure the neighbours.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if "CI" in os.environ else "dev")


@pytest.fixture
def reference() -> set[str]:
    """Full names of everything that the API reference shows; a module stands for what it exports."""
    pages = (Path(__file__).parent.parent / "docs/reference/api").glob("*.md")
    return {name for page in pages for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", page.read_text(), re.MULTILINE)}
