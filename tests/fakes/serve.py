"""`python -m tests.fakes.serve --home DIR --log-file FILE`: the real gateway over a fake worker."""

from __future__ import annotations

import argparse
import sys

import msgspec

from appliance import config
from appliance.cli.base import report
from appliance.cli.serve import run
from appliance.errors import ApplianceError

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--log-file", required=True)
    parser.add_argument("--worker", default="tests.fakes.fake_worker")
    options = parser.parse_args()
    home = config.find_home(options.home)
    try:
        settings = config.load(home)
        settings = msgspec.structs.replace(
            settings,
            server=msgspec.structs.replace(settings.server, port=0),
            console=msgspec.structs.replace(settings.console, port=0),
            log=msgspec.structs.replace(settings.log, file=options.log_file),
        )
        run(home, settings, worker_command=[sys.executable, "-m", options.worker])
    except ApplianceError as error:
        sys.exit(report(error))
