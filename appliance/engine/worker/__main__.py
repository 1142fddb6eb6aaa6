"""`python -m appliance.engine.worker --fd N`: one model, one process."""

from __future__ import annotations

import argparse
import sys

from appliance.engine.messages import LoadModel
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.program import run


def _llama(load: LoadModel) -> Backend:
    # Imported only here: the library takes a second and is of no use to anybody else.
    from appliance.engine.worker.llama import LlamaBackend  # noqa: PLC0415

    return LlamaBackend(load)


def main() -> None:
    """The socket's number comes from the supervisor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    sys.exit(run(parser.parse_args().fd, _llama))


if __name__ == "__main__":
    main()
