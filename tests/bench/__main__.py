"""`make bench`: figures of one run, side by side. Never a test: the machine is shared and noisy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from appliance import log as logging_setup
from appliance.config import Log
from tests.bench import audit, engine, kiosk

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run everything that is there, print tables, write the figures beside this file."""
    logging_setup.configure(Log(level="error"))
    results = {}
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as scratch:
        for name, bench in (("audit", audit.run), ("engine", engine.run), ("kiosk", kiosk.run)):
            print(f"\n{name}", flush=True)
            results[name] = bench(Path(scratch) / name)
            for label, figure in results[name].items():
                print(f"  {label:58} {figure:>10}", flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
