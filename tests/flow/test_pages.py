"""What the documentation shows of the tables is what the tables say."""

from pathlib import Path

from inferencesched.flow import ANSWERS, diagram

PAGE = (Path(__file__).parents[2] / "docs/explanation/flow-control.md").read_text()


def test_the_diagram_is_drawn_from_the_transition_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in PAGE


def test_the_answers_are_those_of_the_table() -> None:
    rows = []
    for why, answer in ANSWERS.items():
        name, reason = why.name.lower().replace("_", " "), f"`{answer.reason}`" if answer.reason else "–"
        rows.append(f"| {name} | {answer.http_status} | {reason} | {'yes' if answer.transient else 'no'} |")

    assert "\n".join(rows) in PAGE
