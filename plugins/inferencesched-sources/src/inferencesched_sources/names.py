"""The addresses behind names: asked for once at a time, and remembered for a little while.

A resolver may take half a minute to give up, and asks in threads of which there are few. So whoever stops waiting does
not start it again: the next one who wants the same name waits for the lookup that is under way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

__all__ = ["Names"]

_KEPT_SECONDS = 10.0


class Names:
    """Resolves, for one event loop."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host in the order of preference: the host itself if it is an address.

        Raises:
            OSError: it has none.
        """
        if _is_address(host):
            return [host]
        loop, key = asyncio.get_running_loop(), (host, port)
        until, found = self._found.get(key, (0.0, []))
        if loop.time() < until:
            return found
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = loop.create_task(self._ask(host, port))
            asked.add_done_callback(_noticed)
        return await asyncio.shield(asked)

    async def close(self) -> None:
        """Stop asking."""
        asked = list(self._asked.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        finally:
            del self._asked[host, port]
        found = list(dict.fromkeys(_written(info[4]) for info in infos))
        now = loop.time()
        self._found = {key: known for key, known in self._found.items() if now < known[0]}
        self._found[host, port] = (now + _KEPT_SECONDS, found)
        return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _written(address: tuple[object, ...]) -> str:
    """Return an address of a socket as text; a link-local one of IPv6 keeps its zone."""
    host, zone = str(address[0]), address[3] if len(address) > 3 else 0
    return f"{host}%{zone}" if zone and "%" not in host else host


def _noticed(task: asyncio.Task[list[str]]) -> None:
    """Take notice of an error, even if everybody has stopped waiting for it."""
    if not task.cancelled():
        task.exception()
