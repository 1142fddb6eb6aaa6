"""`python -m tests.fakes.serve --home DIR --log-file FILE`: the real gateway over a fake worker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from appliance import config, keyring
from appliance.cli.base import report
from appliance.cli.serve import run
from appliance.errors import ApplianceError

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--log-file", required=True)
    parser.add_argument("--worker", default="tests.fakes.fake_worker")
    parser.add_argument("--unlock", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--console-port", type=int, default=0)
    options = parser.parse_args()
    home = config.find_home(options.home)
    if options.unlock is not None:
        home.unlocking.given = lambda: keyring.text_of(options.unlock)
    try:
        settings = config.load(home)
        settings = msgspec.structs.replace(
            settings,
            server=msgspec.structs.replace(settings.server, port=options.port),
            console=msgspec.structs.replace(settings.console, port=options.console_port),
            log=msgspec.structs.replace(settings.log, file=options.log_file),
        )
        run(home, settings, worker_command=[sys.executable, "-m", options.worker])
    except ApplianceError as error:
        sys.exit(report(error))
