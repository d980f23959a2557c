"""``inferencesched explain``: why would this request go there? One decision, with its receipt."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import attrs
import click

from inferencesched.cli.files import read
from inferencesched.cli.output import json_option, print_json
from inferencesched.cli.policies import PolicyType
from inferencesched.cli.situations import EXAMPLE, EndpointGiven, RequestGiven, Situation, read_situation
from inferencesched.decision import Rejection
from inferencesched.documents import Document
from inferencesched.errors import ConfigError, Problem
from inferencesched.sim.policies import Policy, build_scheduler
from inferencesched.vocabulary import COLUMNS

__all__ = ["command"]

_NOW = 1000.0
"""Any time will do: ages are differences."""


class _EndpointType(click.ParamType[EndpointGiven]):
    """Converts ``NAME:COLUMN=NUMBER,label.KEY=VALUE,…`` to an endpoint."""

    name = "endpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> EndpointGiven:
        """Return the endpoint; a list of names is written ``sql+poet``, an unknown fact is left out."""
        name, _, rest = value.partition(":")
        labels: dict[str, str] = {}
        facts: dict[str, Any] = {}
        for pair in filter(None, rest.split(",")):
            key, equals, given = pair.partition("=")
            if not name or not equals:
                self.fail(f"expected NAME:COLUMN=VALUE,…, got '{value}'", param, ctx)
            if key.startswith("label."):
                labels[key.removeprefix("label.")] = given
            else:
                facts[key] = _number_or_names(given)
                if key in COLUMNS and not isinstance(facts[key], float):
                    self.fail(f"expected a number for {key}, got '{given}'", param, ctx)
        return EndpointGiven(name, labels=labels, facts=facts)


class _HeaderType(click.ParamType[tuple[str, str]]):
    """Converts ``NAME=VALUE``."""

    name = "header"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return name and value."""
        name, equals, given = value.partition("=")
        if not equals:
            self.fail(f"expected NAME=VALUE, got '{value}'", param, ctx)
        return name, given


@click.command("explain")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--policy",
    type=PolicyType(),
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help=f"By name, or a file with an EndpointPickerConfig. Names: {', '.join(PolicyType.names)}.",
)
@click.option(
    "--endpoint",
    "endpoints",
    type=_EndpointType(),
    multiple=True,
    metavar="NAME:COLUMN=VALUE,…",
    help="An endpoint and its facts; repeat for each. Labels: label.KEY=VALUE. Sets: active_adapters=sql+poet.",
)
@click.option("--model", help="The request's model.")
@click.option("--prompt", help="The request's prompt.")
@click.option(
    "--prompt-tokens", type=click.IntRange(min=0), help="Its length, where the prompt itself does not matter."
)
@click.option("--adapter", help="The LoRA adapter it wants.")
@click.option("--session", help="Its session.")
@click.option("--priority", type=int, help="Its priority.")
@click.option("--header", "headers", type=_HeaderType(), multiple=True, metavar="NAME=VALUE", help="A header of it.")
@click.option("--fallbacks", type=click.IntRange(min=0), default=0, help="Rank so many endpoints besides the first.")
@click.option("--seed", default=0, show_default=True, help="Decides among equals.")
@json_option
def command(
    *,
    file: Path | None,
    policy: tuple[str, Policy],
    endpoints: tuple[EndpointGiven, ...],
    headers: tuple[tuple[str, str], ...],
    fallbacks: int,
    seed: int,
    as_json: bool,
    **fields: Any,
) -> None:
    """Place one request on a fleet described in FILE or by options, and print the receipt of the decision.

    FILE is YAML or JSON with `endpoints:` (name, address, labels, facts, age; prompts they are `serving`, prompts they
    have `served`) and `request:`. Options are put on top of it. Without either, an example is explained.

    Ends with exit code 1 when there is no place for the request.
    """
    situation = EXAMPLE if file is None else _read(file)
    if endpoints:
        situation = attrs.evolve(situation, endpoints=endpoints if file is None else situation.endpoints + endpoints)
    given = {name: value for name, value in fields.items() if value is not None}
    if headers:
        given["headers"] = {**situation.request.headers, **dict(headers)}
    request = RequestGiven() if endpoints and file is None else situation.request
    situation = attrs.evolve(situation, request=attrs.evolve(request, **given))

    _, configuration = policy
    scheduler = build_scheduler(configuration, rng=random.Random(seed))
    situation.stage(scheduler, now=_NOW)
    answer = scheduler.schedule(situation.wanted(), now=_NOW, n=1 + fallbacks)
    if as_json:
        print_json(answer.to_dict())
    else:
        click.echo(answer.explain())
    if isinstance(answer, Rejection):
        raise SystemExit(1)


def _read(file: Path) -> Situation:
    documents: list[Document] = read(file)
    if len(documents) != 1:
        raise ConfigError([Problem("", f"expected one document, found {len(documents)}", str(file))])
    return read_situation(documents[0])


def _number_or_names(given: str) -> Any:
    try:
        return float(given)
    except ValueError:
        return [name for name in given.split("+") if name]
