"""The request: a value that validates itself and keeps what is private out of sight."""

import pytest

from inferencesched import Request


def test_k2_header_names_are_found_in_any_case() -> None:
    """HTTP header names are case-insensitive; a name given twice in different cases is one name."""
    request = Request("r", headers={"X-Session-Id": "s", "x-session-ID": "t"})

    assert dict(request.headers) == {"x-session-id": "t"}


def test_k3_prompt_headers_and_salts_are_not_in_the_repr() -> None:
    """What is printed by accident holds no prompt, credential or session."""
    request = Request(
        "r", "m", "secret prompt", headers={"authorization": "secret"}, cache_salt="secret", session="secret"
    )

    assert "secret" not in repr(request)
    assert "r" in repr(request)


@pytest.mark.parametrize(
    "field", ["deadline", "ttft_slo", "tpot_slo", "prompt_tokens", "max_output_tokens", "size_bytes"]
)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_e5_numbers_that_would_jump_a_queue_are_refused(field: str, value: float) -> None:
    """Negative, NaN and infinite deadlines or sizes do not get in."""
    with pytest.raises(ValueError, match=f"{field} must be a finite number ≥ 0"):
        Request("r", **{field: value})  # type: ignore[arg-type]


def test_the_adapter_is_the_models_name_unless_it_is_given() -> None:
    """The field serves an adapter under its own model name."""
    assert Request("r", "english-bot").lora == "english-bot"
    assert Request("r", "llm-base", adapter="english-bot").lora == "english-bot"


def test_requests_are_equal_to_themselves_alone() -> None:
    """Two requests may carry one id, and prompts are never compared."""
    assert Request("r") != Request("r")
