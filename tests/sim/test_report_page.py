"""Facts about plot and page: they hold what the results hold, also where there is little to show."""

import random
import xml.etree.ElementTree as ET

import pytest

from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.html import render_report
from inferencesched.sim.plot import draw_comparison
from inferencesched.sim.policies import POLICIES, build_scheduler
from inferencesched.sim.replay import Result, replay
from inferencesched.sim.trace import Trace, TraceRequest
from inferencesched.sim.workload import CHAT, Workload

FLEET = FleetSpec((ENGINES["h100"], ENGINES["h100"], ENGINES["a100"]))
TRACE = Workload(((CHAT, 2.0),)).generate(20.0, random.Random(1), name="chat & <more>")


def results(trace: Trace = TRACE) -> list[Result]:
    return [
        replay(trace, FLEET, lambda rng, name=name: build_scheduler(POLICIES[name], rng=rng), policy=name)  # type: ignore[misc]
        for name in ("random", "default")
    ]


def test_a_plot_is_an_image_of_four_charts() -> None:
    """As PNG and as SVG."""
    assert draw_comparison(results(), "png").startswith(b"\x89PNG")
    svg = ET.fromstring(draw_comparison(results(), "svg"))  # noqa: S314 - we wrote it
    axes = [group for group in svg.iter("{http://www.w3.org/2000/svg}g") if group.get("id", "").startswith("axes_")]
    assert len(axes) == 4


@pytest.mark.parametrize("answer", [1, 2])
def test_a_trace_with_nothing_to_measure_can_be_plotted(answer: int) -> None:
    """One request, and no second token."""
    single = Trace("one", 64, (TraceRequest("r", 0.0, 64, answer, (1,)),))

    assert draw_comparison(results(single), "png").startswith(b"\x89PNG")


def test_the_page_says_what_was_simulated_and_escapes_what_it_was_given() -> None:
    """Two kinds of engine, each with its count; names are text, not markup."""
    page = render_report(TRACE, FLEET, results(), seed=3, command="inferencesched replay 'a b'", receipt="e0 → <best>")

    assert "2 × Llama 3.1 8B on one H100 80GB" in page
    assert "1 × Llama 3.1 8B on one A100 80GB" in page
    assert "chat &amp; &lt;more&gt;" in page
    assert "e0 → &lt;best&gt;" in page
    assert "Seed 3." in page


def test_the_page_leaves_out_what_there_is_not() -> None:
    """No receipt, no section for it."""
    page = render_report(TRACE, FLEET, results(), seed=0, command="", receipt="")

    assert "One decision in full" not in page


def test_the_page_says_whether_time_was_real() -> None:
    """And that times which were measured differ from run to run."""
    virtual, live = (
        render_report(TRACE, FLEET, results(), seed=0, command="", receipt="", is_live=is_live)
        for is_live in (False, True)
    )

    assert "in virtual time" in virtual
    assert "give the same numbers" in virtual
    assert "in real time" in live
    assert "measured by an HTTP client" in live
    assert "times differ from run to run" in live
