"""Acts as drafts: files for those who sign them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance import durable
from appliance.audit.acts import Draft, SignedAct
from appliance.cli.base import NEW_FILE, require_new, show


def act_option(function: Any) -> Any:
    """`--out FILE`: where the draft goes."""
    return click.option(
        "--out",
        required=True,
        type=NEW_FILE,
        help="The draft, for those who sign it.",
    )(function)


def write_act(out: Path, draft: Draft, *, as_json: bool) -> None:
    """The draft as a file that is not there yet."""
    require_new(out)
    durable.write_file(out, SignedAct(draft).note().encode(), mode=0o644)
    lines = [
        f"drafted {draft.act}: {out}",
        f"to be signed by each who agrees: appliance auditor sign {out} --identity FILE",
        f"then, here:                      appliance auditor apply {out}",
    ]
    show({"act": str(draft.act), "out": str(out)}, lines, as_json=as_json)
