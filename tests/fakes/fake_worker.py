"""`python -m tests.fakes.fake_worker --fd N`: the real worker program over the fake backend."""

from __future__ import annotations

import argparse
import sys

from appliance.engine.worker.program import run
from tests.fakes.fake_backend import FakeBackend

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    sys.exit(run(parser.parse_args().fd, FakeBackend))
