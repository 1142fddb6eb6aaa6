"""`make bench`: this appliance beside its peers, in one run. Never a test: machines are noisy.

    python -m tests.bench [SUBJECT…]

Prints as it goes, and writes RESULTS.md, results.svg and results.json beside this file. A run of some
subjects keeps what an earlier run said about the others.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from appliance import log as logging_setup
from appliance.config import Log
from tests.bench import (
    audit,
    audit_cost,
    audit_postgres,
    bundles,
    greedy,
    kiosk,
    latency,
    load,
    memory,
    prompts,
    report,
    streams,
    tuned,
    variants,
)
from tests.bench.figures import Row, Run
from tests.bench.peers import PeerFailed, has_llama_cpp_server, has_llama_server

SUBJECTS: dict[str, Callable[[Run], list[Row]]] = {
    "audit": audit.run,
    "kiosk": kiosk.run,
    "streams": streams.run,
    "latency": latency.run,
    "load": load.run,
    "audit_cost": audit_cost.run,
    "audit_postgres": audit_postgres.run,
    "prompts": prompts.run,
    "memory": memory.run,
    "greedy": greedy.run,
    "bundles": bundles.run,
    "variants": variants.run,
}


def main() -> None:
    """Run the subjects that were named, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    named = parser.parse_args().subjects
    if unknown := set(named) - SUBJECTS.keys():
        parser.error(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    logging_setup.configure(Log(level="error"))
    signal.signal(signal.SIGTERM, _leave)  # so that the servers which run are ended, too
    if not has_llama_server():
        print("llama-server is not built, so it is left out: make llama-server", flush=True)
    if not has_llama_cpp_server():
        print("the bench's environment is not installed: no llama_cpp.server, no plot", flush=True)
    ours = tuned.measured()
    print(f"our settings, measured: {ours.tuning}", flush=True)
    # In the checkout, not in /tmp, which may be memory: the audit log is measured on a disk.
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="tmp") as scratch:
        run = Run(Path(scratch))
        left_out = [name for name in named or SUBJECTS if not _is_measured(name, run)]
    report.write(SUBJECTS)
    print(report.draw(), flush=True)
    if left_out:
        sys.exit(f"left out, see above: {', '.join(left_out)}")


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _is_measured(name: str, run: Run) -> bool:
    print(f"\n{name}", flush=True)
    began = time.monotonic()
    run.notes.clear()
    if not has_llama_server():
        run.notes.append("llama-server was not built, so it is left out (make llama-server)")
    try:
        rows = SUBJECTS[name](run)
    except (PeerFailed, httpx.HTTPError) as error:  # the other subjects can still be measured
        print(f"  {name} is left out: {type(error).__name__} {error}", flush=True)
        return False
    took = time.monotonic() - began
    for row in rows:
        print(f"  » {report.line(row)}", flush=True)
    print(f"  {took:.0f} s", flush=True)
    report.keep(name, rows, run.notes, took)
    return True


if __name__ == "__main__":
    main()
