"""Scraping over real sockets: what is brought, what is said when it cannot be, and who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import socket
import ssl
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar, TypeVarTuple

import pytest
import trustme
from inferencesched_sources import CoreMetricsExtractor, MetricsDataSource

from inferencesched import ConfigError, Endpoint, Registry
from inferencesched.interfaces import Reading
from inferencesched.signals import blind_spots

create = Registry().create
Ts = TypeVarTuple("Ts")


def source(*extractors: Any, interval: float = 0.05, **parameters: Any) -> MetricsDataSource:
    return MetricsDataSource(interval=interval, **parameters).read_by(extractors or [CoreMetricsExtractor()])


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_the_load_of_every_engine_is_brought_and_kept_up_to_date(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(3) as engines:
            for i, engine in enumerate(engines):
                engine.page = lab.vllm.format(waiting=i)
                fleet.add(f"gpu-{i}", engine.address)
            async with source().open(fleet):
                await lab.until(
                    lambda: not any(math.isnan(fleet.fact(f"gpu-{i}", "waiting_requests")) for i in range(3))
                )
                assert fleet.batch()["waiting_requests"].tolist() == [0.0, 1.0, 2.0]
                assert fleet.batch()["kv_cache_utilization"].tolist() == [0.5] * 3

                engines[0].page = lab.vllm.format(waiting=40)
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 40.0)

    asyncio.run(scenario())


def test_an_endpoint_is_asked_over_one_connection(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            async with source().open(fleet):
                await lab.until(lambda: engine.asked >= 10)
        assert len(engine.connections) == 1

    asyncio.run(scenario())


def test_nobody_is_asked_for_what_nobody_reads(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet("in_flight_requests")
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            async with source().open(fleet) as scraping:
                await asyncio.sleep(0.2)
                assert (engine.asked, scraping.looks) == (0, 0)

                fleet.columns = frozenset({"waiting_requests"})
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 1.0)
        assert "running_requests" not in fleet.batch()

    asyncio.run(scenario())


def test_nothing_goes_on_after_the_source_was_left_and_it_can_be_opened_again(lab: Any) -> None:
    async def scenario() -> None:
        fleet, scraper = lab.fleet(), source()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            for _ in range(2):
                before = engine.asked
                async with scraper.open(fleet):
                    await lab.until(lambda before=before: engine.asked > before + 2)
                left = engine.asked
                await asyncio.sleep(0.15)
                assert engine.asked == left
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


# --- who comes and goes ----------------------------------------------------------------------------------------------


def test_i7_endpoints_from_before_the_loop_started_are_asked_as_those_that_come_later(lab: Any) -> None:
    fleet = lab.fleet()
    first, second = lab.engine(), lab.engine()
    first.port = free_port()
    fleet.add("early", first.address)
    scraper = source()

    async def scenario() -> None:
        async with first.running(), second.running(), scraper.open(fleet):
            await lab.until(lambda: fleet.fact("early", "waiting_requests") == 1.0)
            fleet.add("late", second.address)
            await lab.until(lambda: fleet.fact("late", "waiting_requests") == 1.0)

    asyncio.run(scenario())


def test_i3_a_name_that_comes_back_under_another_address_is_another_endpoint(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(2) as [old, new]:
            new.page = lab.vllm.format(waiting=7)
            before = fleet.add("gpu-0", old.address)
            async with source().open(fleet):
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 1.0)
                after = fleet.add("gpu-0", new.address)
                assert math.isnan(fleet.fact("gpu-0", "waiting_requests"))
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 7.0)
                asked = old.asked
                await asyncio.sleep(0.2)
                assert (old.asked, before.instance) != (asked + 2, after.instance)
                assert old.asked == asked

    asyncio.run(scenario())


def test_i1_an_endpoint_that_was_removed_and_added_between_two_looks_is_followed(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            async with source().open(fleet):
                await lab.until(lambda: fleet.updates > 0)
                fleet.remove_endpoint("gpu-0")
                fleet.add("gpu-0", engine.address)
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 1.0)

                fleet.remove_endpoint("gpu-0")
                await asyncio.sleep(0.15)
                asked = engine.asked
                await asyncio.sleep(0.15)
                assert engine.asked == asked

    asyncio.run(scenario())


def test_a_page_that_labels_move_is_asked_for_where_it_is(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(2) as [one, other]:
            fleet.add("gpu-0", "127.0.0.1:1", metricsPort=str(one.port), metricsPath="/load")
            async with source().open(fleet):
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 1.0)
                assert set(one.paths) == {"/load"}

                fleet.add("gpu-0", "127.0.0.1:1", metricsPort=str(other.port))
                await lab.until(lambda: "/metrics" in other.paths)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("parameters", "address", "url"),
    [
        ({}, "10.0.0.7:8000", "http://10.0.0.7:8000/metrics"),
        ({}, "[::1]:8000", "http://[::1]:8000/metrics"),
        ({}, "gpu-0", "http://gpu-0/metrics"),
        ({}, "https://gpu-0:8443/base", "https://gpu-0:8443/metrics"),
        ({"scheme": "https", "port": 9000, "path": "/m"}, "10.0.0.7:8000", "https://10.0.0.7:9000/m"),
    ],
)
def test_the_page_is_at_the_address_of_the_endpoint(parameters: dict[str, Any], address: str, url: str) -> None:
    assert MetricsDataSource(**parameters).url(Endpoint("gpu-0", address)) == url


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_i4_failures_remove_no_endpoint_and_no_fact_which_grows_old(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            async with source().open(fleet) as scraping:
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 1.0)
                engine.status = 500
                await lab.until(lambda: scraping.failures >= 5)
                observed = fleet.batch().observed("waiting_requests")[0]
                await lab.until(lambda: scraping.failures >= 8)

                assert fleet.fact("gpu-0", "waiting_requests") == 1.0
                assert fleet.batch().observed("waiting_requests")[0] == observed
                assert fleet.batch().age("waiting_requests")[0] > 0

                engine.status = 200
                await lab.until(lambda: fleet.batch().observed("waiting_requests")[0] > observed)

    asyncio.run(scenario())


def test_i5_an_endpoint_that_never_answers_holds_up_nobody(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(20) as engines:
            for i, engine in enumerate(engines):
                fleet.add(f"gpu-{i}", engine.address)
            silent, *others = engines
            silent.speaks.clear()
            scraper = source()
            async with scraper.open(fleet) as scraping:
                await lab.until(lambda: all(engine.asked >= 5 for engine in others))
                assert silent.asked == 1
                await lab.until(lambda: scraping.failures == 1)

        assert math.isnan(fleet.fact("gpu-0", "waiting_requests"))
        assert scraper.explain("gpu-0", "waiting_requests") == f"http://{silent.address}/metrics: no answer within 1 s"

    asyncio.run(scenario())


def test_i8_more_endpoints_than_a_client_has_connections_by_default_are_asked_at_once(lab: Any) -> None:
    """None of 110 engines answers before all of them were asked: a cap of 100 would stop there."""

    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(110, together=True) as engines:
            for i, engine in enumerate(engines):
                fleet.add(f"gpu-{i}", engine.address)
            async with source(interval=0.9).open(fleet):
                await lab.until(lambda: fleet.updates >= 110)

    asyncio.run(scenario())


def test_j4_a_page_that_is_not_there_is_said_once_and_the_blind_are_named(
    lab: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            engine.status = 404
            fleet.add("gpu-3", engine.address)
            scraper = source()
            async with scraper.open(fleet):
                await lab.until(lambda: bool(caplog.messages))
                asked = engine.asked
                await lab.until(lambda: engine.asked > asked + 25)  # more than one further report was due

            url = f"http://{engine.address}/metrics"
            assert caplog.messages == [f"metrics-data-source: answered 404 (gpu-3: {url})"]
            (spot,) = blind_spots({"queue-scorer": create("queue-scorer")}, fleet.batch(), [scraper])
            assert str(spot) == f"queue-scorer at gpu-3: column waiting_requests unknown: {url}: answered 404"

    with caplog.at_level(logging.WARNING, "inferencesched.sources"):
        asyncio.run(scenario())


def test_j8_many_endpoints_with_the_same_trouble_make_one_line(lab: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(8) as engines:
            for i, engine in enumerate(engines):
                engine.status = 503
                fleet.add(f"gpu-{i}", engine.address)
            async with source().open(fleet):
                await lab.until(lambda: len(caplog.messages) == 1)
                for engine in engines:
                    engine.status = 200
                await lab.until(lambda: len(caplog.messages) == 2)
        names = "gpu-0, gpu-1, gpu-2, gpu-3, gpu-4 and 3 more"
        assert caplog.messages == [
            f"metrics-data-source: answered 503 ({names}: http://{engines[0].address}/metrics)",
            f"metrics-data-source: all right again: {names}",
        ]

    with caplog.at_level(logging.INFO, "inferencesched.sources"):
        asyncio.run(scenario())


def test_j1_what_a_page_lacks_is_said_once_and_is_unknown_from_then_on(
    lab: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            scraper = source()
            async with scraper.open(fleet):
                await lab.until(lambda: fleet.fact("gpu-0", "kv_cache_utilization") == 0.5)
                engine.page = engine.page.replace("vllm:kv_cache_usage_perc", "vllm:renamed_again")
                await lab.until(lambda: math.isnan(fleet.fact("gpu-0", "kv_cache_utilization")))
                await lab.until(lambda: bool(caplog.messages))
                asked = engine.asked
                await lab.until(lambda: engine.asked > asked + 25)
                assert fleet.fact("gpu-0", "waiting_requests") == 1.0
                why = "the page has no 'vllm:kv_cache_usage_perc' nor 'vllm:gpu_cache_usage_perc'"
                url = f"http://{engine.address}/metrics"
                assert caplog.messages == [
                    f"metrics-data-source: kv_cache_utilization is unknown: {why} (gpu-0: {url})"
                ]
                assert scraper.explain("gpu-0", "kv_cache_utilization") == f"{url}: {why}"
                assert scraper.explain("gpu-0", "waiting_requests") is None

    with caplog.at_level(logging.WARNING, "inferencesched.sources"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:{closed}", "cannot connect (Connection refused)"),
        ("no-such-host.invalid:80", "cannot connect ("),
        ("127.0.0.1:{garbage}", "does not speak HTTP ("),
        ("127.0.0.1:{endless}", "answered with more than 8388608 bytes"),
        ("[not an address", "cannot be asked ("),
    ],
)
def test_whatever_is_at_the_address_is_a_failure_in_words(lab: Any, address: str, why: str) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\x01 what?\r\n\r\n")
        writer.close()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"100000\r\n" + b"#" * 0x100000 + b"\r\n")
                await writer.drain()

    async def scenario() -> None:
        fleet = lab.fleet()
        async with (
            await asyncio.start_server(garbage, "127.0.0.1", 0) as one,
            await asyncio.start_server(endless, "127.0.0.1", 0) as other,
        ):
            ports = [server.sockets[0].getsockname()[1] for server in (one, other)]
            fleet.add("gpu-0", address.format(closed=free_port(), garbage=ports[0], endless=ports[1]))
            scraper = source()
            async with scraper.open(fleet) as scraping:
                await lab.until(lambda: scraping.failures >= 2)
                said = scraper.explain("gpu-0", "waiting_requests")
        await lab.until(lambda: len(asyncio.all_tasks()) == 1)  # a server may be taking up the next connection yet
        assert said is not None
        assert why in said

    asyncio.run(scenario())


def test_an_extractor_that_raises_stops_nobody_else(lab: Any) -> None:
    class Raises:
        def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
            raise ZeroDivisionError("of mine")

    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            scraper = source(Raises(), CoreMetricsExtractor())
            async with scraper.open(fleet):
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 1.0)
                assert "Raises failed (ZeroDivisionError: of mine)" in str(scraper.explain("gpu-0", "x"))

    asyncio.run(scenario())


def test_facts_that_a_host_cannot_take_are_a_trouble_and_not_the_end(lab: Any) -> None:
    class Brings:
        facts: ClassVar[dict[str, Any]] = {"waiting_requests": "many"}

        def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
            return Reading(self.facts)

    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            scraper = source(Brings())
            async with scraper.open(fleet) as scraping:
                await lab.until(lambda: scraping.looks > 3)
                assert "brought what cannot be taken (ValueError: " in str(scraper.explain("gpu-0", "x"))
                Brings.facts["waiting_requests"] = 3.0
                await lab.until(lambda: fleet.fact("gpu-0", "waiting_requests") == 3.0)

    asyncio.run(scenario())


def test_looking_takes_one_task_and_one_timer_of_an_endpoint(lab: Any) -> None:
    """A task makes the connection; a timer begins each look, whether or not there is an answer in time."""

    class Counting(asyncio.SelectorEventLoop):
        tasks = timers = 0

        def create_task(self, *args: Any, **options: Any) -> Any:
            self.tasks += "_Connection" in repr(args)
            return super().create_task(*args, **options)

        def call_at(
            self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
        ) -> asyncio.TimerHandle:
            self.timers += "Watched" in repr(callback)
            return super().call_at(when, callback, *args, context=context)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Counting)
        fleet = lab.fleet()
        async with lab.engines(3) as engines:
            for i, engine in enumerate(engines):
                fleet.add(f"gpu-{i}", engine.address)
            async with source().open(fleet) as scraping:
                await lab.until(lambda: scraping.looks >= 60)
        late = sum(engine.asked for engine in engines) - scraping.looks
        assert loop.tasks == 3
        assert abs(late) <= 3
        assert loop.timers <= 1.5 * scraping.looks  # one each; another two for a look that outlasts the next

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(scenario())


def test_a_look_that_takes_longer_than_the_interval_is_waited_for_and_the_next_one_is_at_once(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(1) as [engine]:
            fleet.add("gpu-0", engine.address)
            engine.speaks.clear()
            async with source().open(fleet) as scraping:
                await lab.until(lambda: engine.asked == 1)
                await asyncio.sleep(0.3)
                assert (engine.asked, scraping.looks, scraping.failures) == (1, 1, 0)
                engine.speaks.set()
                await lab.until(lambda: engine.asked >= 3)
                assert scraping.failures == 0
                assert len(engine.connections) == 1

    asyncio.run(scenario())


def test_an_interval_longer_than_the_patience_is_kept_to(lab: Any) -> None:
    async def scenario() -> None:
        fleet = lab.fleet()
        async with lab.engines(2) as [silent, other]:
            silent.speaks.clear()
            fleet.add("gpu-0", silent.address)
            fleet.add("gpu-1", other.address)
            async with source(interval=60.0).open(fleet) as scraping:
                await lab.until(lambda: scraping.failures == 1)
                assert (silent.asked, other.asked, scraping.looks) == (1, 1, 2)

    asyncio.run(scenario())


def test_j10_an_interval_below_the_floor_is_the_floor_with_a_warning(
    lab: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with source(interval=0.001).open(lab.fleet()):
            pass

    with caplog.at_level(logging.WARNING, "inferencesched.sources"):
        asyncio.run(scenario())

    assert caplog.messages == ["metrics-data-source: an interval of 1 ms is too short; 50 ms is used"]
    assert source(interval=0.001).pause == 0.05
    assert create("metrics-data-source", {"interval": "50ms"}).pause == 0.05


# --- parameters ------------------------------------------------------------------------------------------------------


def test_an_engine_with_a_certificate_is_asked_as_the_parameters_say(lab: Any, tmp_path: Path) -> None:
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(served)
    served.verify_mode = ssl.CERT_REQUIRED
    own = authority.issue_cert("scheduler@example.org")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    own.cert_chain_pems[0].write_to_path(paths["certificate"])
    own.private_key_pem.write_to_path(paths["key"])
    shown = {"client_cert_path": paths["certificate"], "client_key_path": paths["key"], "scheme": "https"}

    async def reached(**parameters: Any) -> bool:
        fleet = lab.fleet()
        async with lab.engine().running(ssl_context=served) as engine:
            fleet.add("gpu-0", engine.address)
            async with source(**parameters).open(fleet) as scraping:
                await lab.until(lambda: scraping.failures + fleet.updates > 0)
        return bool(fleet.updates)

    async def looks_on() -> None:
        """An engine that is not trusted is asked again and again: it may get another certificate."""
        fleet = lab.fleet()
        async with lab.engine().running(ssl_context=served) as engine:
            fleet.add("gpu-0", f"https://{engine.address}")
            scraper = source(insecure_skip_verify=False)
            async with scraper.open(fleet) as scraping:
                await lab.until(lambda: scraping.failures >= 3)
                assert "cannot connect (its certificate: " in str(scraper.explain("gpu-0", "waiting_requests"))

    asyncio.run(looks_on())
    assert asyncio.run(reached(**shown, insecure_skip_verify=False, ca_cert_path=paths["ca"]))
    assert asyncio.run(reached(**shown))
    assert not asyncio.run(reached(**shown, insecure_skip_verify=False))
    assert not asyncio.run(reached(scheme="https"))


def test_a_certificate_that_cannot_be_read_is_an_error_at_the_start(lab: Any) -> None:
    async def scenario() -> None:
        async with source(ca_cert_path="/no/such.pem").open(lab.fleet()):
            pytest.fail("it was opened")

    with pytest.raises(ConfigError, match="a certificate cannot be read"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("type", "parameters", "message"),
    [
        ("metrics-data-source", {"scheme": "ftp"}, "expected one of http, https"),
        ("metrics-data-source", {"port": 0}, "expected a number ≥ 1"),
        ("metrics-data-source", {"port": 70000}, "expected a number ≤ 65535"),
        ("metrics-data-source", {"path": "metrics"}, "begins with '/'"),
        ("metrics-data-source", {"interval": "-1s"}, "expected a duration ≥ 0"),
        ("metrics-data-source", {"clientCertPath": "a.pem"}, "go together"),
        ("core-metrics-extractor", {"defaultEngine": "mine"}, "'mine' is none of"),
        ("core-metrics-extractor", {"engineConfigs": [{"name": "default"}]}, "expected the name of an engine"),
        ("core-metrics-extractor", {"engineConfigs": [{"name": ""}]}, "expected the name of an engine"),
        ("core-metrics-extractor", {"engineConfigs": [{"name": "a"}, {"name": "a"}]}, "configured twice"),
        (
            "core-metrics-extractor",
            {"engineConfigs": [{"name": "a", "kvUsageSpec": "no metric"}]},
            "expected a metric such as",
        ),
        (
            "core-metrics-extractor",
            {"engineConfigs": [{"name": "a", "customMetrics": [{"attributeKey": "k", "metricSpec": "m"}] * 2}]},
            "'k' is given twice",
        ),
    ],
)
def test_a_wrong_parameter_is_named(type: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(type, parameters)
