"""Acts as files: drafted on the appliance, signed on auditors' own machines, carried out on the appliance."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import durable
from appliance.audit import acts
from appliance.audit.acts import Act
from appliance.audit.recipients import parse_identity
from appliance.cli.base import FILE, command_gateway, home_option, json_option, show
from appliance.cli.beginning import begin
from appliance.commands import ChangePolicy, Command, Erase, LiftHold
from appliance.config import Home
from appliance.errors import InternalError


@click.command()
@click.argument("act", type=FILE)
@click.option(
    "--identity",
    "identity_path",
    required=True,
    type=FILE,
    help="Whose signature it is.",
)
@json_option
def sign(act: Path, identity_path: Path, *, as_json: bool) -> None:
    """Read an act, and put a signature under it. Needs no appliance: it runs on the auditor's machine.

    \b
    Example: appliance auditor sign erase.act --identity alice.identity
    """
    drafted = acts.parse(act.read_text(encoding="utf-8"))
    identity = parse_identity(identity_path.read_text(encoding="utf-8"))
    signed = drafted.signed_by(identity)
    durable.write_file(act, signed.note().encode(), mode=0o644)
    names = [name for name, _ in signed.signatures]
    result = {
        "act": str(signed.draft.act),
        "origin": signed.draft.origin,
        "parameters": dict(signed.draft.parameters),
        "signatures": names,
    }
    lines = [
        f"{signed.draft.act} for {signed.draft.origin}",
        *(f"   {name}: {value}" for name, value in signed.draft.parameters.items()),
        f"signed by: {', '.join(names)}",
    ]
    show(result, lines, as_json=as_json)


@click.command()
@click.argument("act", type=FILE)
@home_option
@json_option
def apply(act: Path, home: Home, *, as_json: bool) -> None:
    """Carry out an act that enough members of the key policy have signed.

    \b
    Example: appliance auditor apply erase.act
    """
    note = act.read_text(encoding="utf-8")
    kind = acts.parse(note).draft.act
    if kind is Act.RESTORE:
        begin(home, note, as_json=as_json)
        return
    result = command_gateway(home, _command(kind, note))
    lines = [f"done: {', '.join(f'{name} {value}' for name, value in result.items())}"]
    show(result, lines, as_json=as_json)


def _command(act: Act, note: str) -> Command:
    match act:
        case Act.RESTORE:
            raise InternalError("a log is begun anew while no gateway runs")
        case Act.POLICY_CHANGE:
            return ChangePolicy(act=note)
        case Act.ERASE:
            return Erase(act=note)
        case Act.HOLD_LIFT:
            return LiftHold(act=note)
