"""Routes of the simulator itself: health, what arrived (``/sim/requests``), and what goes wrong (``/sim/faults``).

Each ``/sim`` route is about the server that is asked, or about the one in the same process that ``?engine=NAME`` names:
one that refuses connections can be mended through its neighbour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import orjson
from aiohttp import web

from inferencesched_enginesim.faults import Fault
from inferencesched_enginesim.problems import BadRequest, openai_error
from inferencesched_enginesim.service import Service
from inferencesched_enginesim.web import json_answer

__all__ = ["add_routes"]

_Handler = Callable[[Service, web.Request], Awaitable[web.StreamResponse]]
_VERSION = "0.32.0+enginesim"  # of the vLLM that is imitated


def add_routes(router: web.UrlDispatcher, name: str, services: Callable[[], Mapping[str, Service]]) -> None:
    """Add the routes of the server `name`; `services` are all in this process, by name."""

    def at(handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            known, wanted = services(), request.query.get("engine", name)
            try:
                if wanted not in known:
                    raise BadRequest(f"there is no engine '{wanted}' here; there are {', '.join(known)}")
                return await handler(known[wanted], request)
            except BadRequest as problem:
                return json_answer(openai_error(problem), problem.status)

        return handle

    for path in ("/health", "/ping"):
        router.add_get(path, _healthy)
    router.add_get("/version", _version)
    router.add_get("/sim/requests", at(_requests))
    router.add_delete("/sim/requests", at(_clear_requests))
    router.add_get("/sim/faults", at(_list_faults))
    router.add_post("/sim/faults", at(_add_faults))
    router.add_delete("/sim/faults", at(_reset_faults))


async def _healthy(_: web.Request) -> web.Response:
    return web.Response()


async def _version(_: web.Request) -> web.Response:
    return json_answer({"version": _VERSION})


async def _requests(service: Service, _: web.Request) -> web.StreamResponse:
    return json_answer(service.log.to_dict())


async def _clear_requests(service: Service, _: web.Request) -> web.StreamResponse:
    service.log.clear()
    return json_answer(service.log.to_dict())


async def _list_faults(service: Service, _: web.Request) -> web.StreamResponse:
    return _shown(service.faults.active())


async def _reset_faults(service: Service, _: web.Request) -> web.StreamResponse:
    service.faults.reset()
    return _shown([])


async def _add_faults(service: Service, request: web.Request) -> web.StreamResponse:
    """Add the fault in the body, or each of a list. The answer is sent before they are in force."""
    try:
        given: Any = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON: {error.msg}") from None
    fields = given if isinstance(given, list) else [given]
    if not all(isinstance(one, dict) for one in fields):
        raise BadRequest("a fault is a JSON object")
    faults = [Fault.from_json(one) for one in fields]
    response = _shown(faults)
    response.force_close()  # so that the client does not count on a connection that a fault may reset
    await response.prepare(request)
    await response.write_eof()
    for fault in faults:
        service.faults.add(fault)
    return response


def _shown(faults: list[Fault]) -> web.Response:
    return json_answer({"faults": [attrs.asdict(fault) for fault in faults]})
