"""`EngineServer`: one simulated server, listening. Listening, refusing and faults that are not a request's are here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from inferencesched_enginesim import anthropic, control, embeddings, models, openai, responses
from inferencesched_enginesim.faults import Faults
from inferencesched_enginesim.kv_events import KvEvents
from inferencesched_enginesim.log import RequestLog
from inferencesched_enginesim.metrics import CONTENT_TYPE
from inferencesched_enginesim.service import Service
from inferencesched_enginesim.spec import ServerSpec
from inferencesched_enginesim.web import Handler, echo_request_id, json_answer, route

__all__ = ["EngineServer"]

_LARGEST_BODY = 64 * 2**20
_BACKLOG = 4096  # connections that may arrive at once

_POSTS: Mapping[str, Handler] = {
    "/v1/chat/completions": openai.chat_completions,
    "/v1/completions": openai.completions,
    "/v1/embeddings": embeddings.embeddings,
    "/v1/responses": responses.responses,
    "/v1/messages": anthropic.messages,
    "/v1/messages/count_tokens": anthropic.count_tokens,
    "/v1/load_lora_adapter": models.load_adapter,
    "/v1/unload_lora_adapter": models.unload_adapter,
    "/tokenize": models.tokenize_text,
    "/detokenize": models.detokenize_ids,
}


class EngineServer:
    """One simulated model server on a port of its own, for as long as the context is entered.

    Args:
        spec: what it is.

    ::

        async with EngineServer(ServerSpec(model="llama", speed=20)) as engine:
            print(engine.address)
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.peers: Mapping[str, EngineServer] = {spec.name: self}
        self.port = spec.port
        self._service: Service | None = None
        self._runner: web.AppRunner | None = None
        self._socket: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._mending: asyncio.TimerHandle | None = None  # for when the next fault is over
        self._frozen_page: bytes | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        service = self._service = Service(self.spec, loop)
        service.faults.changed = self._faults_changed
        self._runner = web.AppRunner(self._application(service), access_log=None, handler_cancellation=True)
        await self._runner.setup()
        try:
            self._bind()
            await self._accept()
            if self.spec.kv_events is not None:
                service.kv_events = KvEvents(
                    self.spec.host,
                    self.spec.kv_events,
                    topic=f"kv@{self.address}@{self.spec.model}",
                    block_tokens=self.spec.block_tokens,
                )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Reset every connection, and free the ports."""
        if self._mending is not None:
            self._mending.cancel()
        self._stop_listening()
        assert self._runner is not None
        self._reset_connections()
        await self._runner.cleanup()
        self.service.driver.close()
        if self.service.kv_events is not None:
            await self.service.kv_events.close()

    @property
    def service(self) -> Service:
        """What is served; there once the context is entered."""
        assert self._service is not None, "the context is entered first"
        return self._service

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{self.spec.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a URL."""
        return f"http://{self.address}"

    @property
    def kv_events(self) -> KvEvents | None:
        """The publisher of cache events, if there is one."""
        return self.service.kv_events

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose."""
        return self.service.faults

    @property
    def log(self) -> RequestLog:
        """What was received lately."""
        return self.service.log

    # --- listening -------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Take the port: from here on connections wait, and are not refused."""
        family = socket.AF_INET6 if ":" in self.spec.host else socket.AF_INET
        self._socket = socket.create_server((self.spec.host, self.port), family=family, backlog=_BACKLOG)
        self.port = self._socket.getsockname()[1]

    async def _accept(self) -> None:
        """Take the connections that wait, and all that come."""
        assert self._runner is not None
        assert self._runner.server is not None
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._runner.server, sock=self._socket, backlog=_BACKLOG)

    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reset_connections(self, *, but: asyncio.BaseTransport | None = None) -> None:
        assert self._runner is not None
        if self._runner.server is None:
            return
        for connection in list(self._runner.server.connections):
            if connection.transport is not None and connection.transport is not but:
                connection.transport.abort()

    def _application(self, service: Service) -> web.Application:
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.on_response_prepare.append(echo_request_id)
        router = application.router
        for path, handler in _POSTS.items():
            router.add_post(path, route(service, handler))
        router.add_get("/v1/models", route(service, models.list_models))
        router.add_get("/metrics", self._metrics)
        control.add_routes(router, self.spec.name, lambda: {name: peer.service for name, peer in self.peers.items()})
        return application

    # --- faults of the server as a whole ---------------------------------------------------------------------------

    def _faults_changed(self) -> None:
        faults, service, loop = self.faults, self.service, asyncio.get_running_loop()
        service.driver.set_rate(self.spec.speed / self.spec.slowdown / faults.slowness())
        if not faults.active("stale-metrics"):
            self._frozen_page = None
        elif self._frozen_page is None:
            self._frozen_page = service.page.text()
        if faults.active("refuse"):
            self._stop_listening()
            self._reset_connections()
        elif self._socket is None:
            self._bind()
            self._accepting = loop.create_task(self._accept())
        if self._mending is not None:
            self._mending.cancel()
        ends = faults.next_end()
        self._mending = None if ends is None else loop.call_at(ends, self._faults_changed)

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.faults.active("no-metrics"):
            return json_answer({"detail": "Not Found"}, 404)
        page = self.service.page.text() if self._frozen_page is None else self._frozen_page
        return web.Response(body=page, headers={"content-type": CONTENT_TYPE})
