"""``inferencesched serve``: the gateway, by one command."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from inferencesched import ConfigError
from inferencesched.cli.output import json_option
from inferencesched.errors import Problem
from inferencesched_gateway.engines import simulated_engines
from inferencesched_gateway.gateway import GatewaySettings
from inferencesched_gateway.manifest import load
from inferencesched_gateway.outcome import Outcome
from inferencesched_gateway.service import Service, ServiceSettings
from inferencesched_gateway.setup import MAX_AGE
from inferencesched_gateway.trust import TrustedNetworks
from inferencesched_gateway.wire import ClientTimeouts, Limits

__all__ = ["command"]

_log = logging.getLogger("inferencesched_gateway")

_DEMO_ENGINES = 4


def _networks(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        TrustedNetworks(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _header(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return GatewaySettings(session_header=value).session_header
    except ValueError:
        raise click.BadParameter(f"'{value}' is no name of a header") from None


@click.command("serve")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Manifests: files, and folders of files. Read again when they change.",
)
@click.option(
    "--endpoint", "urls", multiple=True, metavar="URL", help="A model server; without any manifest if you like."
)
@click.option("--demo", is_flag=True, help=f"Serve {_DEMO_ENGINES} simulated model servers, started along.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any that is free.")
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="CIDR",
    callback=_networks,
    help="Network whose control headers count (objective, fairness id, subset …), and that may read receipts.",
)
@click.option(
    "--session-header",
    callback=_header,
    default="x-session-id",
    show_default=True,
    help="Header that names the session.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 16),
    default=3,
    show_default=True,
    help="Endpoints tried before the first byte.",
)
@click.option(
    "--max-body", type=click.FloatRange(min=0.001), default=64.0, show_default=True, help="Largest request body, MiB."
)
@click.option(
    "--connect-timeout", type=click.FloatRange(min=0.001), default=5.0, show_default=True, help="Seconds to connect."
)
@click.option(
    "--answer-timeout",
    type=click.FloatRange(min=0.001),
    default=300.0,
    show_default=True,
    help="Seconds without a byte of the answer, before it and in it.",
)
@click.option(
    "--max-age",
    type=click.FloatRange(min=0.0, min_open=True),
    default=MAX_AGE,
    show_default=True,
    help="Seconds after which what an engine has said of itself is unknown again.",
)
@click.option(
    "--reload-interval",
    type=click.FloatRange(min=0.0),
    default=1.0,
    show_default=True,
    help="Seconds between looks at the files; 0 reloads on SIGHUP only.",
)
@click.option(
    "--drain-delay",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="Seconds of going on after SIGTERM while /readyz says no already.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0.0),
    default=30.0,
    show_default=True,
    help="Seconds that answers under way may take after that.",
)
@click.option(
    "--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Certificate chain, PEM."
)
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its key, PEM.")
@click.option(
    "--engine-ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Authority of https endpoints, PEM.",
)
@click.option("--access-log", is_flag=True, help="Write a line of JSON to stdout for each request that has ended.")
@click.option("--seed", type=int, help="Of every die that is thrown.")
@json_option
def command(
    *,
    files: tuple[Path, ...],
    urls: tuple[str, ...],
    demo: bool,
    host: str,
    port: int,
    trusted: tuple[str, ...],
    session_header: str,
    attempts: int,
    max_body: float,
    connect_timeout: float,
    answer_timeout: float,
    max_age: float,
    reload_interval: float,
    drain_delay: float,
    drain_timeout: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    engine_ca: Path | None,
    access_log: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Serve an OpenAI- and Anthropic-compatible gateway in front of model servers.

    Manifests are those of the field: EndpointPickerConfig, InferencePool, InferenceObjective, InferenceModelRewrite,
    HTTPRoute and endpoints files. Without any, the endpoints make one pool, and the default policy places requests.

    \b
    inferencesched serve --demo
    inferencesched serve --endpoint http://10.0.0.7:8000 --endpoint http://10.0.0.8:8000
    inferencesched serve -f manifests/ --host 0.0.0.0 --trust 10.0.0.0/8
    """  # noqa: D301 — click's own mark for lines that are not to be wrapped
    if not (files or urls or demo):
        raise click.UsageError("nothing to serve: give -f, --endpoint or --demo")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    settings = ServiceSettings(
        host,
        port,
        GatewaySettings(attempts, session_header, trusted),
        limits=Limits(body_bytes=int(max_body * 1024 * 1024)),
        client_timeouts=ClientTimeouts(connect=connect_timeout, head=answer_timeout, body=answer_timeout),
        tls=None if tls_cert is None else _server_tls(tls_cert, tls_key),
        engine_tls=None if engine_ca is None else ssl.create_default_context(cafile=engine_ca),
        max_age=max_age,
        reload_seconds=reload_interval,
        drain_delay=drain_delay,
        drain_seconds=drain_timeout,
        seed=seed,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    work = _serve(settings, files, urls, demo=demo, access_log=access_log, as_json=as_json)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(work)


async def _serve(
    settings: ServiceSettings,
    files: tuple[Path, ...],
    urls: tuple[str, ...],
    *,
    demo: bool,
    access_log: bool,
    as_json: bool,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if demo:
            urls += await stack.enter_async_context(simulated_engines(_DEMO_ENGINES))
        service = Service(lambda: load(files, urls), settings, files=files)
        if access_log:
            service.gateway.records.listener = _write
        await stack.enter_async_context(service)
        _listen_to_signals(service)
        gc.freeze()  # what is here now stays: no collection has to look at it again
        _announce(service, as_json=as_json)
        await service.stopped.wait()


def _announce(service: Service, *, as_json: bool) -> None:
    host = service.settings.host
    scheme = "http" if service.settings.tls is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{service.port}"
    pools = {pool.name: [endpoint.address for endpoint in pool.endpoints] for pool in service.pools}
    for warning in service.setup.manifest.warnings:
        _log.warning("%s", warning)
    _log.info("the prefix index takes up to %.0f MiB of memory", service.setup.manifest.index_megabytes)
    if as_json:
        click.echo(json.dumps({"url": url, "pools": pools}))
        return
    click.echo(f"Serving on {url}")
    for name, addresses in pools.items():
        click.echo(f"  {name}: {', '.join(addresses) or 'no endpoint yet'}")
    click.echo(f"Try: curl {url}/v1/models")


def _listen_to_signals(service: Service) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[Any]] = set()  # the loop itself remembers them weakly

    def begin(work: Callable[[], Any]) -> None:
        task = loop.create_task(work())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def stop() -> None:
        if service.is_draining:
            service.stopped.set()  # asked twice: do not wait
        else:
            begin(service.drain)

    with contextlib.suppress(NotImplementedError):  # as on Windows, where Ctrl-C ends the loop itself
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, begin, service.reload)


def _write(outcome: Outcome) -> None:
    click.echo(json.dumps(outcome.to_dict()))


def _server_tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ConfigError([Problem("--tls-cert", f"certificate and key do not fit: {error.reason}")]) from None
    return context


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where there is one: it carries twice as many requests."""
    try:
        import uvloop  # noqa: PLC0415 — it does not exist for Windows
    except ImportError:
        return None
    return uvloop.new_event_loop
