"""What every reading of the record does: an auditor's key, an entry of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from appliance import config, durable, keyring
from appliance.audit import query
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened
from appliance.audit.recipients import Identity, parse_identity
from appliance.cli.base import FILE, command_gateway, database_of, warn
from appliance.cli.init import DEV_IDENTITY
from appliance.commands import RecordReading
from appliance.config import Home
from appliance.core import Principal, Receipt, Role
from appliance.errors import RequestError, SetupError
from appliance.exporting import Recorder
from appliance.why import NOT_STATED, Why


def on_record(
    home: Home,
    database: Path | None,
    kind: Kind,
    public: dict[str, str | int],
    content: dict[str, Any],
    shares: Sequence[str] = (),
    *,
    why: Why = NOT_STATED,
    reader: str = "",
) -> dict[str, bytes]:
    """A reading goes on the record before its result is shown; the shares that it needs come back."""
    is_own = database is None or (home.database.exists() and database.samefile(home.database))
    if not is_own:
        warn("reading a copy: this can not be put on the record")
        return {}
    command = RecordReading(
        event=str(kind),
        public=public,
        content=content,
        shares=list(shares),
        purpose=why.purpose,
        case=why.case,
        reader=reader,
    )
    released = command_gateway(home, command)["shares"]
    return {name: bytes.fromhex(secret) for name, secret in released.items()}


def identity_option(function: Any) -> Any:
    """`--identity FILE`: with whose key to read, twice where it takes two readers."""
    return click.option(
        "--identity",
        "identity_paths",
        multiple=True,
        type=FILE,
        help="An auditor's identity file; two where the policy says 2-of-n (profile dev: init's own).",
    )(function)


def open_exchange(
    home: Home,
    database: Path | None,
    target: str,
    identity_paths: Sequence[Path],
    release: Path | None = None,
    why: Why = NOT_STATED,
) -> tuple[list[Opened], dict[str, str]]:
    """One exchange with its content, and who reads it. The reading is on the record first.

    A copy of the database opens with a release: shares that its appliance handed out, on its record.
    """
    place = database_of(home, database)
    identities = identities_of(home, identity_paths)
    records = query.exchange(place, target)
    reader = {
        "target": target,
        "reader": " ".join(each.recipient.fingerprint for each in identities),
        "name": " ".join(each.name for each in identities),
    }
    public: dict[str, str | int] = {"target": records[0].seq}
    needed = query.shares_of(records)
    shares = on_record(
        home, database, Kind.AUDIT_READ, public, reader, needed, why=why, reader=reader["reader"]
    )
    if release is not None:
        shares |= read_release(release)
    if needed and not shares and database is not None:
        raise SetupError(
            "a copy holds only half of each record's key",
            code="release_required",
            hint="on the appliance: appliance audit release TARGET --out FILE; then pass --release FILE",
        )
    return query.open_records(place, records, identities, shares), reader


def recorder_of(home: Home) -> Recorder:
    """How an export comes on the record from here: by the running gateway, or by this process."""

    async def record(recorded: Entry, shares: list[str]) -> tuple[Receipt, dict[str, bytes]]:
        content = dict(recorded.content or {})
        command = RecordReading(
            event=str(recorded.kind),
            public=dict(recorded.public),
            content=content,
            shares=shares,
            purpose=str(content.pop("purpose", "")),
            case=str(content.pop("case", "")),
        )
        said = await asyncio.to_thread(command_gateway, home, command)
        receipt = Receipt(said["origin"], said["seq"], bytes.fromhex(said["leaf"]))
        return receipt, {name: bytes.fromhex(secret) for name, secret in said["shares"].items()}

    return record


def somebody_here() -> Principal:
    """Who runs this program, as the host knows them: no account, and no key."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return Principal(key_id="", name=name, role=Role.OPERATOR)


def why_options(*, required: bool = False) -> Callable[[Any], Any]:
    """`--purpose TEXT --case NUMBER`: what somebody reads for; both stand on the record."""

    def options(function: Any) -> Any:
        purpose = click.option(
            "--purpose",
            default=None if required else "",
            required=required,
            metavar="TEXT",
            help="What for; it stands on the record.",
        )
        case = click.option(
            "--case", default="", metavar="NUMBER", help="The case's number, on the record too."
        )
        return purpose(case(function))

    return options


def write_release(path: Path, origin: str, shares: Mapping[str, bytes]) -> None:
    """Released shares as a file: half of what opens their records, and nothing without an identity."""
    text = json.dumps(
        {"release": 1, "origin": origin, "shares": {name: each.hex() for name, each in shares.items()}},
        indent=2,
    )
    durable.write_file(path, text.encode() + b"\n")


def read_release(path: Path) -> dict[str, bytes]:
    """The shares in a release. RequestError where the file is none."""
    try:
        found = json.loads(path.read_bytes())["shares"]
        return {str(name): bytes.fromhex(secret) for name, secret in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path.name} is not a release of shares", code="invalid_release") from error


def identities_of(home: Home, paths: Sequence[Path]) -> list[Identity]:
    """The auditors' key pairs: from the files, or in profile dev the home's own."""
    if not paths:
        return [_dev_identity(home)]
    return [parse_identity(path.read_text(encoding="utf-8")) for path in paths]


def _dev_identity(home: Home) -> Identity:
    path = home.keys / DEV_IDENTITY
    if config.load(home).profile != "dev" or not path.is_file():
        raise SetupError(
            "reading needs an auditor's identity",
            code="identity_required",
            hint="pass --identity FILE",
        )
    warn("using the identity that profile 'dev' keeps in the home; production has none here")
    return parse_identity(keyring.read(home, path).decode())
