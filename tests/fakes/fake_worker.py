"""`python -m tests.fakes.fake_worker --fd N`: the real worker program over the fake backend."""

from __future__ import annotations

import sys

from appliance.engine.worker.program import main
from tests.fakes.fake_backend import FakeBackend

if __name__ == "__main__":
    sys.exit(main(FakeBackend))
