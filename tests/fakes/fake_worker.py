"""`python -m tests.fakes.fake_worker --fd N`: the real worker program over the fake backend."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from appliance.engine.messages import LoadModel
from appliance.engine.worker.start import main

if TYPE_CHECKING:
    from tests.fakes.fake_backend import FakeBackend


def _fake(load: LoadModel) -> FakeBackend:
    # As the real one: what it imports is imported inside the sandbox.
    from tests.fakes.fake_backend import FakeBackend  # noqa: PLC0415

    return FakeBackend(load)


if __name__ == "__main__":
    sys.exit(main(_fake))
