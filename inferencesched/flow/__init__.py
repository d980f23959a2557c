"""Flow control: which requests wait, which go next, and which are refused, when there is less room than work.

Nothing in here knows what an endpoint is, except the saturation detectors, which read how full each one is.
"""

from inferencesched.flow.states import TRANSITIONS, State, Step

__all__ = ["TRANSITIONS", "State", "Step"]
