"""What holds for every test: the hypothesis profiles."""

import os

from hypothesis import settings

# Machines that run tests are shared: a deadline in milliseconds would measure the neighbours.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if "CI" in os.environ else "dev")
