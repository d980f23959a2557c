"""Whatever a file holds, the outcome is a configuration or a ConfigError, and nothing else."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, strategies as st

from inferencesched import ConfigError, load_config
from inferencesched.cli.nodes import documents_in
from inferencesched.errors import Problem
from inferencesched.resources import resolve

FILES = sorted(
    [*Path(__file__).parent.glob("shapes/*.yaml"), *(Path(__file__).parent.parent / "resources").glob("*/*.yaml")]
)
TEXTS = [path.read_text() for path in FILES]
DOCUMENTS = [document for text in TEXTS for document in yaml.safe_load_all(text)]
WORDS = sorted({word.strip('"-,:[]{}') for text in TEXTS for word in text.split()})

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
)


def outcome(*documents: Any) -> None:
    for load in (load_config, resolve):
        try:
            load(*documents)
        except ConfigError as error:
            str(error)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid document with one to three of its parts replaced, removed, repeated or renamed."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        holders = list(containers(document))
        holder = draw(st.sampled_from(holders))
        if not holder:
            continue
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        deed = draw(st.sampled_from(["replace", "remove", "repeat", "rename"]))
        if deed == "remove":
            del holder[key]
        elif deed == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif deed == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS))] = holder.pop(key)
        else:
            holder[key] = draw(values)
    return document


def containers(node: Any) -> Any:
    if isinstance(node, dict | list):
        yield node
        for inner in list(node.values() if isinstance(node, dict) else node):
            yield from containers(inner)


@given(mutated())
def test_a_mutated_document_loads_or_is_a_config_error(document: Any) -> None:
    outcome(document)


@given(st.lists(values, max_size=3))
def test_any_values_at_all_load_or_are_a_config_error(documents: Any) -> None:
    outcome(*documents)


@given(st.sampled_from(TEXTS), st.randoms(use_true_random=False), st.integers(1, 5))
def test_a_text_with_characters_changed_is_read_or_is_problems(text: str, dice: random.Random, changes: int) -> None:
    letters = list(text)
    for _ in range(changes):
        at = dice.randrange(len(letters))
        letters[at : at + dice.choice([0, 1, 1, 5])] = dice.choice(
            [*" \n\t-:[]{}&*!|>'\"#%@`,?0\\", "&a ", "*a", "<<: "]
        )
    read(("").join(letters))


@given(st.text() | st.text("-:[]{}&*!|>'\"#%?,~ \nab01.<", max_size=60))
def test_any_text_at_all_is_read_or_is_problems(text: str) -> None:
    read(text)


# What YAML takes for the end of a line, JSON does not.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029"))
finite = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


@given(finite, st.booleans())
def test_json_is_read_as_what_was_written(value: Any, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    problems: list[Problem] = []

    documents = documents_in(text, "x.json", problems)

    assert problems or [document.content for document in documents] == [json.loads(text)]


def read(text: str) -> None:
    problems: list[Problem] = []
    documents = documents_in(text, "x.yaml", problems)
    assert all(str(problem) for problem in problems)
    outcome(*documents)
