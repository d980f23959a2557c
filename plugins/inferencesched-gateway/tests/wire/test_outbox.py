"""What is written in one turn of the loop goes out together at its end; nothing is lost, late or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st
from inferencesched_gateway.wire import Exchange, Origin, Server
from inferencesched_gateway.wire.connection import Connection
from inferencesched_gateway.wire.outbox import Outbox, Sender

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MOST_BYTES, MOST_WAITING = 65_536, 64


class Line(asyncio.Transport):
    """A transport that writes down every call, and takes as much as it is told to before it asks for a pause."""

    def __init__(self, protocol: asyncio.Protocol | None = None, *, takes: int = 10**9) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.protocol = protocol
        self.takes = takes
        self.calls: list[Any] = []
        self.closing = False

    @property
    def sent(self) -> bytes:
        return b"".join(each for each in self.calls if isinstance(each, bytes))

    def write(self, data: Any) -> None:
        self.calls.append(data)
        self._taken()

    def writelines(self, data: Any) -> None:
        self.calls.append("writelines")
        self.calls += data
        self._taken()

    def _taken(self) -> None:
        if self.protocol is not None and self.get_write_buffer_size():
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return max(len(self.sent) - self.takes, 0)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("eof")

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.calls.append("close")
        self.closing = True

    def abort(self) -> None:
        self.calls.append("abort")
        self.closing = True


def answered(handler: Callable[[Exchange], None], data: bytes, *, takes: int = 10**9) -> tuple[list[Any], list[Any]]:
    """Return what a connection did with its transport before the end of the turn in which data came, and by then."""

    async def main() -> tuple[list[Any], list[Any]]:
        server = Server(handler)
        await server.start("127.0.0.1", 0)
        protocol = Connection(server)
        line = Line(protocol, takes=takes)
        protocol.connection_made(line)
        protocol.data_received(data)
        before = list(line.calls)
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        server.stop_accepting()
        server.timers.close()
        return before, line.calls

    return asyncio.run(main())


def respond(exchange: Exchange) -> None:
    exchange.respond(200, [], b"hello")


def stream(exchange: Exchange) -> None:
    exchange.start(200, [])
    for piece in (b"he", b"llo"):
        exchange.write(piece)
    exchange.end()


@pytest.mark.parametrize(
    ("handler", "body"),
    [(respond, b"content-length: 5\r\n\r\nhello"), (stream, b"\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")],
)
def test_a_whole_answer_is_one_write_at_the_end_of_the_turn(handler: Callable[[Exchange], None], body: bytes) -> None:
    before, [answer] = answered(handler, GET)

    assert before == []
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(body)


def test_the_answers_to_pipelined_requests_are_one_write_in_their_order() -> None:
    count = 0

    def handler(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        exchange.respond(200, [(b"x-number", b"%d" % count)])

    _, [answers] = answered(handler, GET * 3)

    assert [part[0:1] for part in answers.split(b"x-number: ")[1:]] == [b"1", b"2", b"3"]


def test_a_piece_of_a_stream_is_sent_in_the_turn_that_it_was_written_in(run: Run) -> None:
    async def main(lab: Lab) -> None:
        exchanges: list[Exchange] = []
        server = await lab.server(exchanges.append)
        protocol = Connection(server)
        line = Line(protocol)
        protocol.connection_made(line)
        protocol.data_received(GET)
        exchanges[0].start(200, [])
        for piece in (b"a", b"b"):
            exchanges[0].write(piece)
            await asyncio.sleep(0)
            assert line.calls[-1].endswith(b"1\r\n%b\r\n" % piece)
        exchanges[0].end()
        protocol.connection_lost(None)

    run(main)


def test_a_connection_that_is_to_close_sends_first() -> None:
    before, after = answered(respond, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    assert before == after
    assert after[0].endswith(b"hello")
    assert after[1:] == ["close"]


def test_a_refusal_is_sent_before_the_end_is() -> None:
    [answer, eof], _ = answered(respond, b"nonsense\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert eof == "eof"


def test_an_answer_that_breaks_off_is_sent_as_far_as_it_came() -> None:
    def handler(exchange: Exchange) -> None:
        exchange.start(200, [(b"content-length", b"9")])
        exchange.write(b"hello")
        exchange.abort()

    [begun, close], _ = answered(handler, GET)

    assert begun.endswith(b"hello")
    assert close == "close"


def test_an_answer_that_only_closing_would_end_is_dropped_by_a_reset() -> None:
    def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.write(b"hello")
        exchange.abort()

    assert answered(handler, GET.replace(b"1.1", b"1.0")) == (["abort"], ["abort"])


def test_what_is_much_is_sent_at_once_without_being_copied() -> None:
    body = b"x" * (MOST_BYTES + 1)

    before, after = answered(lambda exchange: exchange.respond(200, [], body), GET)

    assert before == after
    assert before[0] == "writelines"
    assert before[2] is body


def test_who_writes_without_end_is_told_to_pause_within_the_turn() -> None:
    """Memory is bounded by what is held here and by the transport's own mark, and not by how long a turn lasts."""
    told: list[bool] = []
    written = 0

    def handler(exchange: Exchange) -> None:
        nonlocal written
        exchange.on_writable = told.append
        exchange.start(200, [])
        while not told:
            exchange.write(b"x" * 1000)
            written += 1000

    answered(handler, GET, takes=100_000)

    assert told == [False]
    assert written <= 100_000 + MOST_BYTES + 1000


def test_bytes_that_wait_here_count_as_unsent() -> None:
    async def main() -> None:
        line = Line(takes=10)
        sender = Sender(Outbox(asyncio.get_running_loop()), line)
        sender.write(b"x" * 15)
        assert sender.unsent == 15
        sender.flush()
        assert sender.unsent == 5
        sender.write(b"y")
        assert sender.unsent == 6

    asyncio.run(main())


def test_a_transport_that_broke_is_not_written_to() -> None:
    async def main() -> None:
        line = Line()
        sender = Sender(Outbox(asyncio.get_running_loop()), line)
        sender.write(b"x")
        line.closing = True
        await asyncio.sleep(0)
        assert (line.calls, sender.unsent) == ([], 0)

    asyncio.run(main())


def test_many_senders_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        outbox = Outbox(asyncio.get_running_loop())
        lines = [Line() for _ in range(MOST_WAITING + 1)]
        for line in lines:
            Sender(outbox, line).write(b"x")
        assert [line.calls for line in lines] == [[b"x"]] * MOST_WAITING + [[]]
        await asyncio.sleep(0)
        assert lines[-1].calls == [b"x"]

    asyncio.run(main())


def test_one_transport_that_fails_holds_back_no_other() -> None:
    class Broken(Line):
        def write(self, data: Any) -> None:
            raise RuntimeError("the handle is closed")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        problems: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        outbox = Outbox(loop)
        good = Line()
        for line in (Broken(), good):
            Sender(outbox, line).write(b"x")
        await asyncio.sleep(0)
        assert good.calls == [b"x"]
        assert [str(each["exception"]) for each in problems] == ["the handle is closed"]

    asyncio.run(main())


STEPS = st.sampled_from(["turn", "flush", *(10**n for n in range(6))])


@given(st.lists(st.tuples(st.integers(0, 2), STEPS), max_size=40))
def test_every_sender_sends_what_was_written_in_that_order(steps: list[tuple[int, Any]]) -> None:
    async def main() -> None:
        outbox = Outbox(asyncio.get_running_loop())
        lines = [Line() for _ in range(3)]
        senders = [Sender(outbox, line) for line in lines]
        written = [b"", b"", b""]
        for number, (which, step) in enumerate(steps):
            if step == "turn":
                await asyncio.sleep(0)
                assert [line.sent for line in lines] == written
            elif step == "flush":
                senders[which].flush()
                assert lines[which].sent == written[which]
            else:
                piece = bytes([number]) * step
                written[which] += piece
                senders[which].write(piece)
            assert all(sender.unsent <= MOST_BYTES for sender in senders)
        await asyncio.sleep(0)
        assert [line.sent for line in lines] == written

    asyncio.run(main())


def test_a_request_is_one_write(run: Run) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        client = lab.client()
        origin = await lab.scripted(script)
        await lab.ask(client, origin)
        [upstream] = client._open
        line = Line()
        upstream._sender = Sender(client.outbox, line)
        call, _ = lab.send(client, origin, method=b"POST", body=b"hello")
        assert line.calls == []
        await asyncio.sleep(0)
        assert len(line.calls) == 1
        assert line.calls[0].endswith(b"\r\n\r\nhello")
        call.cancel()
        assert upstream._transport is not None
        upstream._transport.abort()

    run(main)


def test_a_request_that_is_taken_back_in_the_same_turn_is_not_sent(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, []))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        await lab.ask(client, origin)
        call, heard = lab.send(client, origin)
        call.cancel()
        await lab.until(lambda: not server.connections)
        assert not heard.status
        assert server.exchanges == 0

    run(main)


def test_who_waits_until_nobody_waits_finds_answers_sent(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(respond)
        protocol = Connection(server)
        line = Line(protocol)
        protocol.connection_made(line)
        protocol.data_received(GET)
        assert await server.wait_idle(1)
        assert line.sent.endswith(b"hello")
        protocol.connection_lost(None)

    run(main)
