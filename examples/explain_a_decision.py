"""Why there? A conversation goes back to where its prefix is cached, until that place is too busy: two receipts."""

import random

from inferencesched import Decision, Request, load_config

BOOK = (
    "It is a truth universally acknowledged that a single man in possession of a good fortune must want a wife. " * 80
)

scheduler = load_config().scheduler(rng=random.Random(7))
for name in ("gpu-0", "gpu-1"):
    scheduler.add_endpoint(name, now=0.0)
    scheduler.update(name, {"waiting_requests": 0, "kv_cache_utilization": 0.3}, now=0.0)

first = scheduler.schedule(Request("question", prompt=BOOK + "Who wrote this?"), now=1.0)
assert isinstance(first, Decision)
scheduler.finish(first, now=2.0)

again = scheduler.schedule(Request("follow-up", prompt=BOOK + "Who wrote this? Jane Austen. When?"), now=3.0)
print(again.explain(), end="\n\n")

for number in range(40):  # meanwhile, others that have nothing in common with it arrive at the same place
    other = Request(f"other-{number}", prompt=f"{number}: unlike any other. " * 200)
    scheduler.schedule(other, now=3.0, subset=[first.endpoint.name])

moved = scheduler.schedule(Request("and-one-more", prompt=BOOK + "Who wrote this? Jane Austen. Why?"), now=3.1)
print(moved.explain())
