"""The report of a comparison: one HTML file that needs nothing else, with what is needed to repeat it.

Needs jinja2 and matplotlib (the `cli` extra). Says the same for the same results; no date, no machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

import attrs
from jinja2 import Environment, StrictUndefined

from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.plot import draw_comparison
from inferencesched.sim.replay import Result
from inferencesched.sim.report import summarize
from inferencesched.sim.trace import Trace

__all__ = ["render_report"]


def render_report(
    trace: Trace,
    fleet: FleetSpec,
    results: Sequence[Result],
    *,
    seed: int,
    command: str,
    receipt: str,
    is_live: bool = False,
) -> str:
    """Return the page.

    Args:
        trace: what was replayed.
        fleet: on what.
        results: one for each policy.
        seed: of the dice.
        command: what to type to have it again.
        receipt: one decision in full, as text; empty to leave it out.
        is_live: whether the results were measured over HTTP in real time.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    template = environment.from_string(files("inferencesched.sim").joinpath("report.html.jinja").read_text("utf-8"))
    prompts = sorted(request.prompt_tokens for request in trace.requests)
    answers = sorted(request.output_tokens for request in trace.requests)
    return template.render(
        trace=trace,
        prompt_median=prompts[len(prompts) // 2],
        answer_median=answers[len(answers) // 2],
        fleet=fleet,
        engines=[(engine, sum(other == engine for other in fleet.engines)) for engine in dict.fromkeys(fleet.engines)],
        seed=seed,
        command=command,
        receipt=receipt,
        is_live=is_live,
        summaries=[summarize(result) for result in results],
        fields=[field.name for field in attrs.fields(type(fleet.engines[0])) if field.name != "name"],
        chart=draw_comparison(results, "svg").decode().partition("<svg")[2],
    )


def _number(value: float, form: str) -> str:
    """Write a number, and a dash for one that is unknown."""
    return "–" if math.isnan(value) else format(value, form)
