"""`appliance audit replay`: compute an answer from the record again, and say whether it is the same."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import click

from appliance import config
from appliance.audit.kinds import Kind
from appliance.cli.base import home_option, json_option, on_one_line, show
from appliance.cli.reading import identity_option, on_record, open_exchange
from appliance.config import Home
from appliance.modelling import catalog_of
from appliance.replay import Comparison, Recorded, recorded_of
from appliance.replay import replay as run_replay


@click.command()
@click.argument("target", metavar="SEQ|REQUEST_ID")
@identity_option
@home_option
@json_option
def replay(target: str, identity_paths: tuple[Path, ...], home: Home, *, as_json: bool) -> None:
    """Compute a reproducible answer again; exit code 1 where it is not identical.

    Reading and replaying are on the record. Takes a worker of its own beside a running gateway.

    \b
    Example: appliance audit replay 12 --identity alice.identity
    """
    settings = config.load(home)
    opened, reader = open_exchange(home, None, target, identity_paths)
    recorded = recorded_of(opened)
    catalog = catalog_of(home, settings)
    comparison = asyncio.run(run_replay(recorded, catalog, settings.engine))
    public: dict[str, str | int] = {"target": recorded.seq, "identical": int(comparison.identical)}
    on_record(home, None, Kind.AUDIT_REPLAYED, public, reader)
    show({"seq": recorded.seq, **asdict(comparison)}, _told(recorded, comparison), as_json=as_json)
    if not comparison.identical:
        sys.exit(1)


def _told(recorded: Recorded, comparison: Comparison) -> list[str]:
    if comparison.identical:
        return [f"identical: {comparison.num_tokens} tokens, every logit, seq {recorded.seq}"]
    lines = [f"NOT identical, seq {recorded.seq}"]
    if comparison.first_token is not None:
        lines.append(f"   tokens differ from number {comparison.first_token} of {comparison.num_tokens} on")
        lines.append(f"   then: {on_one_line(comparison.recorded)}")
        lines.append(f"   now:  {on_one_line(comparison.replayed)}")
    if comparison.first_logits is not None:
        lines.append(f"   logits differ from token {comparison.first_logits} on")
    lines += [f"   {each}" for each in comparison.differences]
    if not comparison.differences:
        lines.append("   library, device and template are the recorded ones")
    return lines
