"""Local: what the gateway answers itself: health, the list of models, and receipts for those who run it.

GET /healthz /livez       the process is there
GET /readyz               200 when it should be sent requests, 503 while it should not
GET /v1/models            every model that some endpoint says it serves
GET /-/status             pools, endpoints, queues, the ledger's audit        from trusted networks only
GET /-/receipts[/ID]      why a request went where it went                    from trusted networks only
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from inferencesched.apis import error_answer, models_list
from inferencesched_gateway.pool import Pool
from inferencesched_gateway.wire import Exchange

if TYPE_CHECKING:
    from inferencesched_gateway.service import Service

__all__ = ["Local"]

_JSON = [(b"content-type", b"application/json")]
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
_RECEIPTS = "/-/receipts"
_MODELS = "/v1/models"


class Local:
    """Answers what is asked of the gateway and not of an engine.

    Args:
        service: what is told about.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._answers: dict[str, Callable[[Exchange], None]] = {
            "/healthz": self._alive,
            "/livez": self._alive,
            "/readyz": self._ready,
            _MODELS: self._models,
            "/-/status": self._status,
            _RECEIPTS: self._receipts,
        }

    def handle(self, exchange: Exchange) -> bool:
        """Answer, and return whether there was anything to answer here."""
        if exchange.method not in {"GET", "HEAD"}:
            return False
        path = exchange.path
        answer = self._answers.get(path)
        if answer is None and path.startswith(f"{_RECEIPTS}/"):
            answer = self._receipt
        if answer is None and path.startswith(f"{_MODELS}/"):
            answer = self._model
        is_private = path.startswith("/-/")
        if answer is None or (is_private and not self._service.gateway.trusted.covers(exchange.peer)):
            return False
        answer(exchange)
        return True

    def _alive(self, exchange: Exchange) -> None:
        exchange.respond(200, _TEXT, b"ok\n")

    def _ready(self, exchange: Exchange) -> None:
        if self._service.is_ready:
            exchange.respond(200, _TEXT, b"ready\n")
        else:
            exchange.respond(503, _TEXT, b"draining\n" if self._service.is_draining else b"starting\n")

    def _models(self, exchange: Exchange) -> None:
        _answer(exchange, self._listed())

    def _model(self, exchange: Exchange) -> None:
        name = unquote(exchange.path.removeprefix(f"{_MODELS}/"))
        found = next((model for model in self._listed()["data"] if model["id"] == name), None)
        if found is None:
            message = f"The model '{name}' does not exist."
            answer = error_answer(None, 404, message, code="model_not_found")
            exchange.respond(404, _JSON, answer.content)
        else:
            _answer(exchange, found)

    def _listed(self) -> dict[str, Any]:
        """Return what engines say they serve, and the names that rewrites make of it."""
        models: dict[str, bool] = {}
        for pool in self._service.setup.pools.values():
            models |= pool.models
        bases = [model for model, is_adapter in models.items() if not is_adapter]
        parent = bases[0] if len(bases) == 1 else None  # of several, the engines' lists do not say which
        parents = {} if parent is None else {model: parent for model, is_adapter in models.items() if is_adapter}
        names = dict.fromkeys([*models, *self._service.setup.table.models])
        return models_list(names, parents=parents)

    def _status(self, exchange: Exchange) -> None:
        service = self._service
        gateway = service.gateway
        results = [
            {"status": status, "result": result, "requests": count}
            for (status, result), count in sorted(gateway.records.results.items())
        ]
        body = {
            "ready": service.is_ready,
            "draining": service.is_draining,
            "exchanges": service.server.exchanges,
            "connections": service.server.connections,
            "results": results,
            "mirrors": {**gateway.mirrors.stats.to_dict(), "under_way": len(gateway.mirrors.under_way)},
            "pools": {pool.name: _status_of(pool) for pool in service.pools},
        }
        _answer(exchange, body)

    def _receipts(self, exchange: Exchange) -> None:
        _answer(exchange, {"receipts": [record.outcome.to_dict() for record in self._service.gateway.records.latest()]})

    def _receipt(self, exchange: Exchange) -> None:
        record = self._service.gateway.records.find(unquote(exchange.path.removeprefix(f"{_RECEIPTS}/")))
        if record is None:
            exchange.respond(404, _TEXT, b"no receipt of that request is kept\n")
        elif b"text/plain" in (exchange.header(b"accept") or b""):
            exchange.respond(200, _TEXT, record.explain().encode() + b"\n")
        else:
            _answer(exchange, record.to_dict())


def _answer(exchange: Exchange, body: Any) -> None:
    exchange.respond(200, _JSON, orjson.dumps(body))


def _status_of(pool: Pool) -> dict[str, Any]:
    """Return numbers, and the ledger's word that its books are in order."""
    dispatcher = pool.dispatcher
    scheduler = dispatcher.scheduler
    scheduler.ledger.audit()
    saturation = dispatcher.saturation
    return {
        "generation": scheduler.generation,
        "placed": pool.placed,
        "queued": dispatcher.queued,
        "in_flight": dispatcher.in_flight,
        "leases": len(scheduler.ledger),
        "saturation": None if saturation is None else saturation.level,
        "endpoints": {endpoint.name: endpoint.address for endpoint in pool.endpoints},
        "faults": dict(scheduler.faults),
    }
