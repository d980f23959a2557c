"""The whole library in fifteen lines: a fleet, a request, a place, and the place given back."""

import random
import time

from inferencesched import Rejection, Request, load_config

scheduler = load_config().scheduler(rng=random.Random())
scheduler.add_endpoint("gpu-0", "10.0.0.1:8000", now=time.monotonic())
scheduler.add_endpoint("gpu-1", "10.0.0.2:8000", now=time.monotonic())

answer = scheduler.schedule(Request("r-1", "llama-3-8b", "Tell me about the sea."), now=time.monotonic())
if isinstance(answer, Rejection):
    print(f"reply {answer.http_status}, retry after {answer.retry_after} s")
else:
    try:
        print(f"forward to {answer.endpoint.address}")
    finally:
        scheduler.finish(answer, now=time.monotonic())
