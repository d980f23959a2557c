"""What a Dispatcher tells its host: frozen values, made to be matched.

    match dispatcher.next_event():
        case Assigned(request_id, decision): …   # send it there
        case Rejected(request_id, why): …        # answer with why.http_status, why.reason, why.retry_after
        case Evicted(request_id, why): …         # stop the answer that is under way, then call finish
        case None: …                             # nothing more to say until the next call

Every submission ends in exactly one of: a `Rejected`, or an `Assigned` and then the host's own `finish` or `cancel`.
"""

from __future__ import annotations

from inferencesched.decision import Decision, Rejection
from inferencesched.values import value

__all__ = ["Assigned", "Event", "Evicted", "Rejected", "Ticket"]


@value(eq=False)
class Ticket:
    """One submission: what `submit` returns, and what stands in every event about it.

    Two live submissions may carry one request id (a client that retries, two tenants that both count from one). They
    share nothing, and the ticket tells them apart; where a host's ids are unique, the id will do in its place.

    Attributes:
        request_id: the id of the request that was submitted.
        number: counts the submissions of one dispatcher, from 1.
    """

    request_id: str
    number: int


@value(eq=False)
class Assigned:
    """The request has a place: forward it to ``decision.address``, then say `first_token` and `finish`.

    Attributes:
        request_id: the request's id.
        decision: where, and the receipt.
        ticket: which submission.
        waited: seconds it was queued; 0 for one that went straight through.
    """

    request_id: str
    decision: Decision
    ticket: Ticket
    waited: float = 0.0


@value(eq=False)
class Rejected:
    """The request will get no place; answer it. Nothing is kept of it.

    Attributes:
        request_id: the request's id.
        rejection: status, reason, and when to try again.
        ticket: which submission.
        waited: seconds it was queued; 0 for one that was refused at once.
        position: how many queued requests were to go before it; None where that means nothing (no endpoints, shutdown).
        eta: seconds until its turn would have come at the present rate; None when the rate is not known.
    """

    request_id: str
    rejection: Rejection
    ticket: Ticket
    waited: float = 0.0
    position: int | None = None
    eta: float | None = None


@value(eq=False)
class Evicted:
    """A placed request is asked to make room: end its answer, tell the client `rejection`, then call `finish`.

    It holds its place until `finish` or `cancel` is called; eviction is cooperative.

    Attributes:
        request_id: the request's id.
        rejection: what to tell its client.
        ticket: which submission.
    """

    request_id: str
    rejection: Rejection
    ticket: Ticket


Event = Assigned | Rejected | Evicted
"""Everything that `Dispatcher.next_event` returns, apart from None."""
