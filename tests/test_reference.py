"""The reference cannot drift: pages are made from the code, and what is written by hand names everything there is."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from inferencesched import Registry
from inferencesched.registry import BUILT_IN
from inferencesched.sim.policies import POLICIES
from inferencesched.testing import CONTRACTS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_section_of_a_plugin_has_its_parameters_columns_and_source(name: str, pages: ModuleType) -> None:
    plugin = Registry().type(name)

    section = "\n".join(pages.section(plugin))

    assert section.startswith(f"### {name}\n")
    assert [p.name for p in plugin.parameters if f"| `{p.name}` | {p.kind} |" not in section] == []
    assert "**Source:** " in section
    for attribute in ("consumes", "produces"):
        declared = getattr(plugin.factory, attribute, ())
        assert not isinstance(declared, tuple) or [column for column in declared if f"`{column}`" not in section] == []


def test_every_plugin_is_in_one_section_of_the_page(pages: ModuleType) -> None:
    roles = re.findall(r"^<!-- plugins: (\S+) -->$", (DOCS / "reference/plugins.md").read_text(), re.MULTILINE)

    shown = re.findall(r"^### (\S+)$", "\n".join(pages.plugins(role) for role in roles), re.MULTILINE)

    assert sorted(shown) == sorted(Registry().types)


def test_every_clause_of_every_role_is_printed(pages: ModuleType) -> None:
    printed = pages.clauses(None)

    for role, contract in CONTRACTS.items():
        assert f"### {role}\n" in printed
        assert [name for name in contract.clauses if f"| `{name}` | " not in printed] == []


def test_the_policy_table_has_every_preset_and_only_plugins_that_there_are() -> None:
    table = (DOCS / "reference/policies.md").read_text()
    named = set(re.findall(r"`([a-z0-9-]+-(?:scorer|filter|picker|handler|producer))`", table))

    assert set(re.findall(r"^\| `([a-z-]+)` \| .* \| .* \| .* \| .* \|$", table, re.MULTILINE)) == set(POLICIES)
    assert named - set(POLICIES) <= set(BUILT_IN)
