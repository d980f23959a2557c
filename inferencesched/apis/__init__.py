"""The APIs that clients speak: what they ask for, what it took, and what they are told when it fails.

Takes decoded bodies, and bytes only where an answer is a stream. Which JSON library decodes and writes is the host's
choice; functions that need one take `loads` or `dumps`, by default those of the standard library.
"""

from inferencesched.apis.errors import (
    REASON_HEADER,
    RETRY_AFTER_MOST,
    ErrorAnswer,
    anthropic_error,
    error_answer,
    error_object,
    openai_error,
    rejection_answer,
    upstream_answer,
)
from inferencesched.apis.models import models_list, restore_model
from inferencesched.apis.operations import OPERATIONS, Operation, Operations, operation_for, read_request
from inferencesched.apis.prompts import BadBody, media_digest
from inferencesched.apis.requests import Asked
from inferencesched.apis.stream_errors import error_event
from inferencesched.apis.streams import LONGEST_EVENT, StreamReader
from inferencesched.apis.usage import Usage, usage_of

__all__ = [
    "LONGEST_EVENT",
    "OPERATIONS",
    "REASON_HEADER",
    "RETRY_AFTER_MOST",
    "Asked",
    "BadBody",
    "ErrorAnswer",
    "Operation",
    "Operations",
    "StreamReader",
    "Usage",
    "anthropic_error",
    "error_answer",
    "error_event",
    "error_object",
    "media_digest",
    "models_list",
    "openai_error",
    "operation_for",
    "read_request",
    "rejection_answer",
    "restore_model",
    "upstream_answer",
    "usage_of",
]
