"""The APIs that clients speak. So far: what they are told when there is no place for a request."""

from inferencesched.apis.errors import REASON_HEADER, RETRY_AFTER_MOST, ErrorAnswer, anthropic_error, openai_error

__all__ = ["REASON_HEADER", "RETRY_AFTER_MOST", "ErrorAnswer", "anthropic_error", "openai_error"]
