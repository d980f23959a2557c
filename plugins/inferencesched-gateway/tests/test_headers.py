"""Headers on their way through, and who may say how a request is treated."""

import pytest
from inferencesched_gateway.control import Control, read_control
from inferencesched_gateway.headers import changed, from_engine, readable, to_engine
from inferencesched_gateway.trust import CONTROL_HEADERS, TrustedNetworks
from inferencesched_gateway.wire import Headers

from inferencesched.resources import HeaderChanges

RECEIVED: Headers = [
    (b"host", b"gateway"),
    (b"x-session-id", b"first"),
    (b"x-session-id", b"second"),
    (b"x-llm-d-inference-objective", b"urgent"),
    (b"accept-encoding", b"gzip, br"),
    (b"content-length", b"12"),
    (b"x-name", "Zoë".encode("latin-1")),
]


def test_k2_the_first_of_several_counts_and_bytes_are_text() -> None:
    found = readable(RECEIVED, trusted=True)

    assert found["x-session-id"] == "first"
    assert found["x-name"] == "Zoë"


@pytest.mark.parametrize("name", sorted(CONTROL_HEADERS))
def test_k1_no_control_header_of_a_stranger_is_read_or_forwarded(name: str) -> None:
    headers: Headers = [(name.encode(), b"mine"), (b"accept", b"*/*")]

    assert readable(headers, trusted=False) == {"accept": "*/*"}
    assert to_engine(headers, [], is_read=False) == [(b"accept", b"*/*")]


def test_k7_ours_replace_those_of_the_client_and_of_routes() -> None:
    changes = HeaderChanges(
        set={"X-Request-Id": "route"}, add={"x-team": "a", "x-prefiller-host-port": "b"}, remove=("x-name",)
    )
    ours = [(b"x-request-id", b"ours")]

    sent = to_engine(
        RECEIVED, ours, is_read=True, changes=[changes], told={"x-prefiller-host-port": "c"}, owned=["X-Session-Id"]
    )

    assert sent == [
        (b"x-team", b"a"),
        (b"x-prefiller-host-port", b"c"),
        (b"accept-encoding", b"identity"),
        (b"x-request-id", b"ours"),
    ]


def test_an_answer_that_is_not_read_may_come_compressed() -> None:
    assert (b"accept-encoding", b"gzip, br") in to_engine(RECEIVED, [], is_read=False)


def test_f8_an_answer_has_one_length_and_no_server() -> None:
    answered: Headers = [(b"server", b"uvicorn"), (b"content-length", b"7"), (b"x-a", b"1"), (b"connection", b"close")]

    assert from_engine(answered, [], keep_length=True) == [(b"content-length", b"7"), (b"x-a", b"1")]
    assert from_engine(answered, [], keep_length=False, told={"x-a": "2"}) == [(b"x-a", b"2")]


@pytest.mark.parametrize("nonsense", ["-1", "1e999", "nan", "soon", "", "0"])
def test_e5_a_wish_that_is_no_time_moves_nobody(nonsense: str) -> None:
    assert read_control({"x-llm-d-slo-ttft-ms": nonsense}) == Control()


def test_control_headers_are_read_under_their_old_names_too() -> None:
    told = read_control(
        {
            "x-gateway-inference-fairness-id": "team",
            "x-gateway-inference-objective": "chat",
            "x-slo-ttft-ms": "250",
            "x-gateway-destination-endpoint-subset": "a:1, b:2,",
        }
    )

    assert told == Control("team", True, "chat", None, ("a:1", "b:2"), 0.25)


def test_modifiers_are_applied_in_their_order() -> None:
    changes = [HeaderChanges(set={"X-A": "1"}), HeaderChanges(add={"x-a": "2"}, remove=("x-b",))]

    assert changed({"x-a": "0", "x-b": "0"}, changes) == {"x-a": "1, 2"}


@pytest.mark.parametrize(
    ("peer", "is_covered"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fe80::1%eth0", True), ("11.0.0.1", False), ("", False)],
)
def test_networks_are_trusted_however_their_addresses_are_written(peer: str, is_covered: bool) -> None:
    trusted = TrustedNetworks(["10.0.0.0/8", "fe80::/10"])

    assert trusted.covers(peer) is is_covered
    assert trusted.covers(peer) is is_covered  # from memory


def test_the_memory_of_networks_is_bounded() -> None:
    trusted = TrustedNetworks(["10.0.0.0/8"])
    for i in range(20_000):
        trusted.covers(f"192.0.{i // 256}.{i % 256}")

    assert len(trusted._known) <= 4096
