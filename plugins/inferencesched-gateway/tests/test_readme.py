"""What the README says of the command is what the command says of itself."""

import re
from itertools import zip_longest
from pathlib import Path

import click
from inferencesched_gateway.serve import command
from inferencesched_gateway.trust import CONTROL_HEADERS

README = (Path(__file__).parents[1] / "README.md").read_text()


def options() -> dict[str, str]:
    """Return each option of the table with its default, empty where it has none."""
    table = README.partition("## Options")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `-")]
    found: dict[str, str] = {}
    for names, defaults in rows:
        given = re.findall(r"--[a-z-]+", names)
        found |= dict(zip_longest(given, (each.strip() for each in defaults.split(",")), fillvalue=""))
    return found


def test_every_option_is_in_the_table_with_its_default() -> None:
    real = {
        parameter.opts[-1]: parameter.default if parameter.show_default else None
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }

    assert options() == {name: "" if value is None else _shown(value) for name, value in real.items()}


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_header_that_is_promised_to_be_read_only_from_trusted_networks_is_a_control_header() -> None:
    table = README.partition("## Headers")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `x-")]
    guarded = {name for names, who in rows if "trusted" in who for name in re.findall(r"`(x-[a-z-]+)`", names)}

    assert len(guarded) == 6
    assert guarded <= CONTROL_HEADERS
