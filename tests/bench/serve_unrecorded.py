"""`python -m tests.bench.serve_unrecorded --home DIR --log-file FILE`: our gateway without its record.

For the bench alone: what requests put on the audit log is neither sealed nor hashed nor written, so
that the price of the record can be measured. Everything else, keys and the log's own life, is written.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence

import msgspec

from appliance import config
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer
from appliance.cli.base import report
from appliance.cli.serve import run
from appliance.core import Receipt
from appliance.errors import ApplianceError

_LEFT_OUT = {Kind.REQUEST_OPENED, Kind.REQUEST_SEGMENT, Kind.REQUEST_CLOSED}
_real_commit = Sequencer.commit
_places = itertools.count(1_000_000)


def _commit(self: Sequencer, entries: Sequence[Entry]) -> list[Receipt]:
    if not all(each.kind in _LEFT_OUT for each in entries):
        return _real_commit(self, entries)
    return [Receipt("bench/unrecorded", next(_places), bytes(32)) for _ in entries]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--log-file", required=True)
    options = parser.parse_args()
    Sequencer.commit = _commit  # type: ignore[method-assign]
    home = config.find_home(options.home)
    try:
        settings = config.load(home)
        settings = msgspec.structs.replace(
            settings,
            server=msgspec.structs.replace(settings.server, port=0),
            log=msgspec.structs.replace(settings.log, file=options.log_file),
        )
        run(home, settings)
    except ApplianceError as error:
        sys.exit(report(error))
