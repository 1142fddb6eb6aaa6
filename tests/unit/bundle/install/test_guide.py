"""The operator's guide says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.bundle.install.steps import PATHS, What
from appliance.bundle.refusals import Exit

GUIDE = (Path(__file__).parents[4] / "deploy/guides/bundles.md").read_text(encoding="utf-8")


def test_every_exit_code_is_in_the_guide() -> None:
    """The table and the code list the same numbers with the same names, in order."""
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", GUIDE, re.MULTILINE)

    assert rows == [(str(int(each)), each.name) for each in Exit]


def test_every_step_is_in_the_guide() -> None:
    """The table of steps names each, in the order in which they happen."""
    table = GUIDE.split("## What happens")[1].split("**What was not committed")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)

    assert re.findall(r"`([a-z_]+)`", " ".join(cells)) == [str(each) for each in PATHS[What.UPGRADE]]
