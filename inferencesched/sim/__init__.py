"""Simulated fleets and replayed traces: the scheduler as it is, model servers in virtual time."""
