"""Values that nobody changes: the type checker forbids it, and the interpreter is not asked to a second time.

A class of `attrs.frozen` sets each of its fields through ``object.__setattr__``, at three to six times the price of a
plain assignment. The values that one request leaves behind (ticket, lease, pass, decision, event) have some fifty
fields together, which made that a tenth of what placing a request costs. What is *given* to plugins (`Request`,
`Endpoint`) is frozen at run time too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

__all__ = ["value"]

if TYPE_CHECKING:
    from attrs import frozen as value
else:

    def value(cls: type | None = None, /, *, eq: bool = True, **options: Any) -> Any:
        """Make an attrs class whose instances are not to be changed; options are those of `attrs.frozen`."""
        # By their values equal, by their values hashed: what `attrs.frozen` would do.
        return attrs.define(cls, eq=eq, unsafe_hash=eq or None, on_setattr=attrs.setters.NO_OP, **options)
