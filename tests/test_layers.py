"""Who may import whom. The only test that is allowed an opinion on architecture.

Imports are read from the source, never executed. An import is known by its dotted name, `from a import b` being
`a.b`; the *part* it belongs to is the module or package directly under `inferencesched`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "inferencesched"

LAYERS = (
    {"errors", "request", "endpoints", "decision", "events", "vocabulary", "extremes", "units", "values"},  # 0 facts
    {"interfaces"},  # 1 contracts
    {"adapters", "ledger", "prefix", "flow", "latency", "signals", "apis", "guards", "builtin"},  # 2 crafts
    {"profile", "weighing", "scheduler", "dispatcher", "shadow", "sync", "isolation"},  # 3 machines
    {"registry", "parameters", "documents", "config", "resources"},  # 4 assembly
    {PACKAGE, "sim", "aio", "cli", "__main__"},  # 5 shells, and the facade (`__init__.py`) that everyone sees
)
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
SHELLS = len(LAYERS) - 1
TESTING = "testing"  # stands beside the layers: imports any of them, imported by none

# Down or sideways, and forbidden all the same.
APART = {
    ("prefix", "flow"): "neither index nor queues know of each other",
    ("flow", "prefix"): "neither index nor queues know of each other",
    **{(part, "builtin"): "machines receive objects" for part in LAYERS[3]},
    **{(part, "builtin"): "assembly names built-ins by string" for part in LAYERS[4]},
}

CORE_DEPENDENCIES = {"attr", "attrs", "numpy", "sortedcontainers", "xxhash"}
SHELLS_ONLY = {"asyncio", "threading", "socket", "time", "logging", "os.environ", "os.getenv"}
DICE = ("random", "numpy.random", "np.random")


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything that the module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def is_or_is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def part_of(name: str) -> str | None:
    """Return the part that a dotted name belongs to, None when it is not ours."""
    if not is_or_is_in(name, PACKAGE):
        return None
    part = name.split(".")[1] if "." in name else PACKAGE
    return part if part in LAYER_OF or part == TESTING else PACKAGE


def part_at(where: str) -> str:
    """Return the part that the file at `where` belongs to, known or not."""
    return PACKAGE if where == f"{PACKAGE}/__init__.py" else Path(where).parts[1].removesuffix(".py")


def package_problems(where: str, source: str) -> list[str]:
    """Return one line for each import or use in a module of the package that its layer forbids."""
    part, tree = part_at(where), ast.parse(source, where)
    if part == TESTING:
        return []
    if part not in LAYER_OF:
        return [f"{where}: '{part}' is in no layer; place it in LAYERS of tests/test_layers.py and in DESIGN.md"]
    layer = LAYER_OF[part]
    problems = []
    for line, name in imports(tree):
        arrow, to = f"{where}:{line} → {name}", part_of(name)
        if to is None:
            if layer < SHELLS and any(is_or_is_in(name, module) for module in SHELLS_ONLY):
                problems.append(f"{arrow} (layer {layer}, for shells only)")
            elif layer < SHELLS and name.split(".")[0] not in CORE_DEPENDENCIES | sys.stdlib_module_names:
                problems.append(f"{arrow} (layer {layer}, not a core dependency)")
        elif to == TESTING:
            problems.append(f"{arrow} (layer {layer} → beside)")
        elif LAYER_OF[to] > layer:
            problems.append(f"{arrow} (layer {layer} → {LAYER_OF[to]})")
        elif (part, to) in APART:
            problems.append(f"{arrow} ({APART[part, to]})")
    return problems if layer == SHELLS else problems + list(chance_and_environment(where, tree))


def chance_and_environment(where: str, tree: ast.Module) -> Iterator[str]:
    """Yield each use of dice other than the type `random.Random`, and each look at the environment."""
    from_random = {name.removeprefix("random.") for _, name in imports(tree) if is_or_is_in(name, "random")}
    for line, name in imports(tree):
        if name.startswith(("random.", "numpy.random")) and name != "random.Random":
            yield f"{where}:{line} → {name} (dice are handed in)"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"random.Random", *(from_random & {"Random"})}:
            yield f"{where}:{node.lineno} → {ast.unparse(node)} (dice are handed in)"
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in SHELLS_ONLY:
                yield f"{where}:{node.lineno} → {name} (for shells only)"
            elif ast.unparse(node.value) in DICE and name != "random.Random":
                yield f"{where}:{node.lineno} → {name} (dice are handed in)"


def guest_problems(where: str, source: str, reference: set[str], strangers: set[str]) -> list[str]:
    """Return one line for each import in a plugin or an example that is not through a public door.

    `reference` is what the API reference shows; `strangers` are the packages of other plugins.
    """
    problems = []
    for line, name in imports(ast.parse(source, where)):
        arrow, segments = f"{where}:{line} → {name}", name.split(".")
        if segments[0] in strangers:
            problems.append(f"{arrow} (another plugin)")
        elif segments[0] == PACKAGE and any(segment.startswith("_") for segment in segments):
            problems.append(f"{arrow} (an underscore)")
        elif segments[0] == PACKAGE and not {name, name.rpartition(".")[0]} & reference and name != PACKAGE:
            problems.append(f"{arrow} (not in the API reference)")
    return problems


def sources(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()


def test_no_module_imports_from_a_layer_above_its_own() -> None:
    problems = [p for where, source in sources(ROOT / PACKAGE) for p in package_problems(where, source)]

    assert not problems, "\n" + "\n".join(problems)


def test_the_design_page_shows_the_same_layers() -> None:
    rows = re.findall(r"^\| \d \w+ \| (.*?) \|", (ROOT / "DESIGN.md").read_text(), re.MULTILINE)

    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == [parts - {PACKAGE, "__main__"} for parts in LAYERS]


def test_plugins_and_examples_come_in_through_public_doors(reference: set[str]) -> None:
    packages = {
        plugin: {path.parent.name for path in plugin.glob("src/*/__init__.py")}
        for plugin in sorted((ROOT / "plugins").glob("*/"))
    }
    problems = []
    for guest in [*packages, ROOT / "examples"]:
        strangers = set().union(*(names for plugin, names in packages.items() if plugin != guest))
        for where, source in sources(guest):
            problems += guest_problems(where, source, reference, strangers)

    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("where", "source", "problem"),
    [
        ("ledger.py", "\nfrom inferencesched.scheduler import S", ":2 → inferencesched.scheduler.S (layer 2 → 3)"),
        ("flow/queue.py", "from inferencesched import prefix", ":1 → inferencesched.prefix (neither index"),
        ("prefix/index.py", "import inferencesched.flow.bands", ":1 → inferencesched.flow.bands (neither index"),
        ("profile.py", "import inferencesched", ":1 → inferencesched (layer 3 → 5)"),
        ("profile.py", "from inferencesched import Request", ":1 → inferencesched.Request (layer 3 → 5)"),
        ("profile.py", "from inferencesched.builtin import scorers", "(machines receive objects)"),
        ("config/build.py", "import inferencesched.builtin.scorers", "(assembly names built-ins by string)"),
        ("cli/main.py", "from inferencesched.testing import check_scorer", "(layer 5 → beside)"),
        ("request.py", "def f():\n    import time", ":2 → time (layer 0, for shells only)"),
        ("request.py", "from os import environ", "→ os.environ (layer 0, for shells only)"),
        ("request.py", "import os\nx = os.environ['A']", ":2 → os.environ (for shells only)"),
        ("registry.py", "import yaml", ":1 → yaml (layer 4, not a core dependency)"),
        ("adapters.py", "from random import choice", ":1 → random.choice (dice are handed in)"),
        ("adapters.py", "import random\nrandom.random()", ":2 → random.random (dice are handed in)"),
        ("adapters.py", "import random\nrng = random.Random(1)", ":2 → random.Random(1) (dice are handed in)"),
        ("adapters.py", "import numpy as np\nnp.random.rand()", ":2 → np.random.rand (dice are handed in)"),
        ("utils.py", "", "'utils' is in no layer; place it"),
    ],
)
def test_a_wrong_arrow_is_named(where: str, source: str, problem: str) -> None:
    (found,) = package_problems(f"{PACKAGE}/{where}", source)

    assert found.startswith(f"{PACKAGE}/{where}")
    assert problem in found


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("profile.py", "import random\nfrom inferencesched.request import Request\ndef f(rng: random.Random): ..."),
        ("flow/queue.py", "import attrs\nfrom sortedcontainers import SortedList\nfrom inferencesched.flow import x"),
        ("cli/demo.py", "import os, random, time, click\nrandom.Random(1), os.environ"),
        ("testing/checks.py", "from inferencesched.cli import main"),
    ],
)
def test_a_right_arrow_passes(where: str, source: str) -> None:
    assert package_problems(f"{PACKAGE}/{where}", source) == []


def test_a_plugin_that_reaches_inside_is_named() -> None:
    source = (
        "import inferencesched\n"
        "from inferencesched import Request\n"
        "from inferencesched.prefix import PrefixIndex\n"
        "from inferencesched.prefix.radix import RadixTree\n"
        "from inferencesched import _secret, registry\n"
        "import other_plugin.shared\n"
    )

    assert guest_problems("p.py", source, {"inferencesched.Request", "inferencesched.prefix"}, {"other_plugin"}) == [
        "p.py:4 → inferencesched.prefix.radix.RadixTree (not in the API reference)",
        "p.py:5 → inferencesched._secret (an underscore)",
        "p.py:5 → inferencesched.registry (not in the API reference)",
        "p.py:6 → other_plugin.shared (another plugin)",
    ]
