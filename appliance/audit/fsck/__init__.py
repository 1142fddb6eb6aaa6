"""`verify`: an independent second reading of the whole record. Needs no secret, writes nothing.

It shares no code with the sequencer: it hashes with hashlib, reads with plain SQL, and believes
nothing but the log's public key. The order of the reading, entries in blocks through all of 2 to 13:
1. `file`        the file is a whole database with exactly this release's schema
2. `entries`     every header is canonical, in place, in order, and says what the columns beside it say
3. `tree`        every leaf, every complete subtree and the root are what the headers make them
4. `checkpoints` newest and kept ones are signed by the log and of this very tree; the head file, too
5. `contents`    sealed contents are there and hash to what their headers commit to
6. `retention`   those that are not there are gone behind an entry that says so
7. `epochs`      epochs, their steps and wraps are the ones that their entries commit to
8. `policies`    each key policy is its entry's, and a quorum of the one before agreed to it
9. `erasures`    a share that opens contents is there, or erased by an entry that says so
10. `lives`      every opening has exactly one closing; segments are complete
11. `pauses`     no pause within one boot is longer than its `log:started` promised
12. `state`      every state row (API keys …) is the one that the last record about it commits to
13. `witnesses`  what witnesses said was said by them, and of this very tree

An incremental reading does the same from where the newest green `log:verified` record ended: the tree goes
on from its stored edge, and what it has to know of the entries before is proven to lie in that tree.
Values before that end which no proof needs are left to the next full reading.

Memory is bounded by what is open at one moment, and the time by one pass. A new thing to look at is a
new `Step` in a file of its own and a line in `_steps`.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.audit.fsck.checkpoints import Checkpoints
from appliance.audit.fsck.contents import Contents
from appliance.audit.fsck.entries import Entries
from appliance.audit.fsck.epochs import Epochs
from appliance.audit.fsck.erasures import Erasures
from appliance.audit.fsck.lives import Lives
from appliance.audit.fsck.pauses import Pauses
from appliance.audit.fsck.policies import Policies
from appliance.audit.fsck.retention import Retention
from appliance.audit.fsck.source import Source, SqliteSource, sqlite_schema
from appliance.audit.fsck.state import State
from appliance.audit.fsck.steps import Reading, Step
from appliance.audit.fsck.tree import Tree
from appliance.audit.fsck.trusted import last_verified
from appliance.audit.fsck.witnesses import Witnesses
from appliance.audit.report import Expected, Report
from appliance.databases.base import Database
from appliance.databases.sqlite import SqliteFile
from appliance.errors import InternalError, VerificationError

__all__ = ["Source", "SqliteSource", "source_of", "sqlite_schema", "verify"]

Progress = Callable[[int, int], None]  # entries done, entries in all


def source_of(place: Database) -> Source:
    """Where to read a database's record from."""
    if isinstance(place, SqliteFile):
        return SqliteSource(place.path)
    # The driver is loaded where it is asked for: an embedded log needs no libpq.
    from appliance.audit.fsck.postgres import PostgresSource  # noqa: PLC0415
    from appliance.databases.postgres import PostgresSchema  # noqa: PLC0415

    if isinstance(place, PostgresSchema):
        return PostgresSource(place)
    raise InternalError("a database of an unknown kind")


def verify(
    source: Source, expected: Expected, progress: Progress | None = None, *, since_last: bool = False
) -> Report:
    """Read once, in one snapshot: everything, or with `since_last` what the last green reading did not.

    What can not be read becomes a finding. A full reading where no earlier one fits.
    """
    report = Report()
    unreadable: tuple[type[Exception], ...] = (*source.errors, VerificationError)
    try:
        with source:
            _read(source, expected, report, progress or _no_progress, since_last=since_last)
    except unreadable as error:
        report.add("database", f"can not be read to its end: {error}")
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:
        # A value of a type that no writer of ours makes: the reading can not go on behind it.
        report.add("database", f"holds a value that can not be read: {type(error).__name__}")
    return report


def _read(
    source: Source, expected: Expected, report: Report, progress: Progress, *, since_last: bool
) -> None:
    found = last_verified(source) if since_last else None
    begin, tree = found or (0, Tree())
    _check_file(source, expected, report, is_full=begin == 0)
    reading = Reading(source, expected, report, tree, begin)
    report.begin = begin
    [(total,)] = source.execute("SELECT count(*) FROM log_entry")
    entries, steps = Entries(reading), _steps(reading)
    progress(begin, total)
    for block in entries.blocks():
        for step in steps:
            step.take(block)
        progress(min(block.end, total), total)
    for step in steps:
        step.finish()
    report.num_entries = reading.tree.size
    report.root = reading.tree.root(reading.tree.size).hex()


def _steps(reading: Reading) -> list[Step]:
    return [
        Checkpoints(reading),
        Contents(reading),
        Retention(reading),
        Epochs(reading),
        Policies(reading),
        Erasures(reading),
        Lives(reading),
        Pauses(reading),
        State(reading),
        Witnesses(reading),
    ]


def _check_file(source: Source, expected: Expected, report: Report, *, is_full: bool) -> None:
    for problem in source.problems() if is_full else ():
        report.add("database", f"integrity check: {problem}")
    found = source.schema()
    for name in sorted(found.keys() | expected.schema.keys()):
        if found.get(name) != expected.schema.get(name):
            report.add(name, "the schema differs from the one of this release")
    revisions = list(source.execute("SELECT version_num FROM alembic_version"))
    if revisions != [(expected.revision,)]:
        report.add("alembic_version", "the schema's revision is not the expected one")


def _no_progress(done: int, total: int) -> None:
    del done, total
