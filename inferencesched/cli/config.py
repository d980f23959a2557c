"""``inferencesched config``: what is in force, and what an editor has to know to help with writing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from inferencesched import load_config
from inferencesched.cli.files import read
from inferencesched.cli.output import json_option, print_json
from inferencesched.config.jsonschema import json_schema

__all__ = ["command"]


class _Dumper(yaml.SafeDumper):
    """Indents lists under their key, as people do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


@click.group("config")
def command() -> None:
    """Show what a configuration means."""


@command.command("show")
@click.argument("file", type=click.Path(exists=True, allow_dash=True, path_type=Path), required=False)
@json_option
def show(*, file: Path | None, as_json: bool) -> None:
    """Print what FILE puts in force, with every default and everything that is put in; without FILE, the default.

    What is printed is a configuration itself, and gives the same again.
    """
    mapping = load_config(*([] if file is None else read(file))).to_mapping()
    if as_json:
        print_json(mapping)
    else:
        click.echo(yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True), nl=False)


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of EndpointPickerConfig, with the parameters of every installed plugin type.

    Editors that know YAML take it from a comment in the first line of a file: "# yaml-language-server:
    $schema=epp.schema.json".
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
