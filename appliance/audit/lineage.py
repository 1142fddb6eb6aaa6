"""Logs of one home, one behind the other: where each lies, whose key it has, what is lost between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.audit import files, query
from appliance.audit.checkpoint import Verifier
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.report import Report
from appliance.config import Home
from appliance.errors import RequestError

DATABASE_NAME: Final = "appliance.db"


def archived(home: Home) -> list[Path]:
    """Databases that others took the place of."""
    return sorted(home.archive.glob(f"*/{DATABASE_NAME}"))


def is_archived(home: Home, database: Path | None) -> bool:
    """Whether this database lies in the home's archive."""
    return database is not None and database.resolve().is_relative_to(home.archive.resolve())


def verifiers_of(home: Home, database: Path | None) -> tuple[Verifier, ...]:
    """The public keys of a log: the home's, or those beside a database in the archive."""
    if database is None or not is_archived(home, database):
        return files.read_verifiers(home.keys)
    return files.read_verifiers(database.parent)


def write_verifiers(home: Home, folder: Path) -> None:
    """The public keys of the log that goes into the archive, beside it."""
    for name in (files.VERIFIER, files.SECOND_VERIFIER):
        if (home.keys / name).exists():
            durable.write_file(folder / name, (home.keys / name).read_bytes(), mode=0o644)


def restorations(home: Home) -> Iterator[Record]:
    """Every `log:restored` of this home's logs, the newest log's first."""
    for path in (home.database, *reversed(archived(home))):
        if path.is_file():
            yield from query.search(path, kind=Kind.LOG_RESTORED)


def end_of(home: Home, origin: str) -> Record | None:
    """The entry of a later log that says where this one ended; None for the one that goes on."""
    return next((each for each in restorations(home) if each.public["old_origin"] == origin), None)


def check_end(home: Home, origin: str, report: Report) -> None:
    """An archived log must be the one that a later log took leave of; a finding where it is not."""
    ended = end_of(home, origin)
    if ended is None:
        return  # replaced by a backup of the same log, which goes on
    if (ended.public["old_size"], ended.public["old_root"]) != (report.num_entries, report.root):
        report.add("log:restored", f"{ended.header.log} says that this log ended with another tree")


def find(home: Home, origin: str, receipt: str) -> str:
    """The sequence number of a receipt of the log that goes on, or what is not one at all, as it is.

    RequestError where the receipt is of an earlier log: it says where that entry lies, or that it is lost.
    """
    named, _, seq = receipt.rpartition("/")
    if not named or not seq.isdecimal() or len(seq) > 18:
        return receipt
    if named == origin:
        return seq
    ended = end_of(home, named)
    if ended is None:
        raise RequestError("this receipt is of a log that this home never held", code="not_found")
    lost_from, lost_until = int(ended.public["lost_from"]), int(ended.public["lost_until"])
    if int(ended.public["old_size"]) <= int(seq):
        lost = lost_from <= int(seq) < lost_until
        raise RequestError(
            f"entry {seq} of {named} is lost: a restored database ended before it"
            if lost
            else f"{named} never had an entry {seq}",
            code="entry_lost" if lost else "not_found",
            hint=f"entry {ended.seq} of {ended.header.log} says what was lost, and who agreed to go on",
        )
    raise RequestError(
        f"entry {seq} of {named} lies in the archive",
        code="entry_archived",
        hint=f"pass --database {home.archive}/…/{DATABASE_NAME} and the number {seq}",
    )
