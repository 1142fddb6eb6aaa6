"""`python -m appliance.engine.worker --fd N`: one model, one process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from appliance.engine.messages import LoadModel
from appliance.engine.worker.start import main

if TYPE_CHECKING:
    from appliance.engine.worker.backend import Backend


def _llama(load: LoadModel) -> Backend:
    # Imported only here: the library takes a second and is of no use to anybody else.
    from appliance.engine.worker import llama  # noqa: PLC0415

    return llama.loaded(load)


if __name__ == "__main__":
    sys.exit(main(_llama))
