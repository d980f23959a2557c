"""Origins, as configurations write them."""

from __future__ import annotations

import pytest
from inferencesched_gateway.wire import Origin


@pytest.mark.parametrize(
    ("text", "host", "port", "tls", "authority"),
    [
        ("10.0.0.1:8000", "10.0.0.1", 8000, False, b"10.0.0.1:8000"),
        ("[::1]:8000", "::1", 8000, False, b"[::1]:8000"),
        ("http://[::1]", "::1", 80, False, b"[::1]"),
        ("https://models.example", "models.example", 443, True, b"models.example"),
        ("https://models.example:8443/", "models.example", 8443, True, b"models.example:8443"),
        ("HTTP://engine-0:80", "engine-0", 80, False, b"engine-0"),
        ("engine_0.ns.svc:8000", "engine_0.ns.svc", 8000, False, b"engine_0.ns.svc:8000"),
    ],
)
def test_an_origin_is_read_as_it_is_written(text: str, host: str, port: int, tls: bool, authority: bytes) -> None:
    origin = Origin.parse(text)

    assert (origin.host, origin.port, origin.tls, origin.authority) == (host, port, tls, authority)
    assert origin == Origin(host, port, tls)
    assert hash(origin) == hash(Origin(host, port, tls))


@pytest.mark.parametrize(
    "text",
    [
        *("", "ftp://a", "http://", "a:0", "a:65536", "a:x", "http://a/v1", "http://a?x", "::1:8000", "a b:1", "a:1:2"),
        *("http://a:1#x", "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n:80", "a\0:80", "http://[x]:1"),
    ],
)
def test_i6_what_is_no_origin_is_refused_at_the_boundary(text: str) -> None:
    with pytest.raises(ValueError, match=r"origin|port"):
        Origin.parse(text)


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="'engine:80'") as caught:
        Origin.parse("http://user:secret@engine:80")

    assert "secret" not in str(caught.value)


def test_literals_are_told_from_names() -> None:
    assert Origin.parse("127.0.0.1:1").is_literal
    assert Origin.parse("[::1]:1").is_literal
    assert not Origin.parse("localhost:1").is_literal
