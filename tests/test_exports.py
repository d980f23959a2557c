"""A public name is a promise: listed, documented, in the reference, and cheap to import."""

import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import inferencesched

ROOT = Path(__file__).parent.parent
NAMESPACES = ("aio", "apis", "flow", "prefix", "resources", "signals", "sim", "testing")
PUBLIC = ["inferencesched"] + [
    f"inferencesched.{name}" for name in NAMESPACES if importlib.util.find_spec(f"inferencesched.{name}")
]


@pytest.fixture(params=PUBLIC)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_all_of_the_facade_is_sorted_and_complete() -> None:
    bound = {
        name for name, value in vars(inferencesched).items() if not name.startswith("_") and not inspect.ismodule(value)
    }

    assert inferencesched.__all__ == sorted(bound)


def test_the_namespace_and_every_name_in_it_has_a_docstring(module: ModuleType) -> None:
    objects = {name: getattr(module, name) for name in module.__all__}
    silent = [n for n, o in objects.items() if (inspect.isclass(o) or inspect.isroutine(o)) and not o.__doc__]

    assert module.__doc__
    assert not silent


def test_every_public_name_is_in_the_reference(module: ModuleType, reference: set[str]) -> None:
    missing = {f"{module.__name__}.{name}" for name in module.__all__} - reference

    assert module.__name__ in reference or not missing, f"document in docs/reference/api: {sorted(missing)}"


def test_importing_the_package_imports_no_optional_dependency() -> None:
    unwanted = "{'asyncio', 'click', 'hypothesis', 'jinja2', 'matplotlib', 'pytest', 'rich', 'yaml'}"
    code = f"import sys, inferencesched; print(sorted({unwanted} & set(sys.modules)))"

    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)

    assert imported.stdout == "[]\n"
