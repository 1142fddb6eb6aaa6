"""A whole home out of a box file, on a machine that has nothing: its files, its database, its shares.

Everything that can be refused is looked at first. Then the box's files are laid down, `appliance.toml` last:
without it no command takes the folder for a home, and the same command goes on where a crash had stopped it.
Then the database takes its place as `restore` lets it, and the shares behind it, in one opening of the log.

A restored signing key can sign what the lost machine had signed otherwise. What is known of that machine's
end (`heads`: any checkpoint that somebody kept) becomes the head, so that a shorter database stays closed.
Of what nobody kept, the log can know nothing; a witness who saw more refuses the other history.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance import config, db, durable
from appliance.audit import boxes, checkpoint, files, share_backups, shares
from appliance.audit.boxes import Box
from appliance.audit.checkpoint import Verifier
from appliance.audit.files import Latch, take_lock
from appliance.audit.recipients import Identity
from appliance.audit.shares import Share
from appliance.clock import Clock
from appliance.config import CONFIG_NAME, EMBEDDED, Home, Settings
from appliance.errors import RequestError, SetupError, VerificationError
from appliance.restore import (
    STAGED,
    Restored,
    Verify,
    add_shares,
    place_database,
    record,
    shares_restored,
    still_due,
)

_PUBLIC: Final = (f"keys/{files.VERIFIER}", f"keys/{files.SECOND_VERIFIER}")
# What may lie in a folder that is no home yet: the bundle's models, old logs, what this program leaves.
_WELCOME: Final = frozenset({"models", "tuning", "archive", "backups", "lock", "lost+found", STAGED})
_MAX_HEAD_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore, and where from. Without a name, a copy is looked for beside the box file."""

    box: Path
    database: Path | None = None
    shares: Path | None = None
    heads: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Unboxed:
    """What came of it. `database` is None on a server; `num_shares` where no shares came back."""

    origin: str
    vkey: str
    head_size: int  # entries that the head remembers now
    made_us: int  # when the box was
    database: Restored | None
    num_shares: int | None
    num_erased: int
    awaited: str = ""  # what is still to be done, in words


@dataclass(frozen=True, slots=True)
class _Opened:
    """Everything that was read before anything is written."""

    sha256: str
    box: Box
    settings: Settings
    verifiers: tuple[Verifier, ...]
    database: Path | None
    shares: list[Share] | None
    shares_sha256: str


def restore_box(home: Home, clock: Clock, wanted: Wanted, identity: Identity, *, verify: Verify) -> Unboxed:
    """Bring a home back. SetupError where this folder is one already; VerificationError: nothing changed,
    but for a database that is not whole, which is found out behind the box's own files.
    """
    found = _opened(wanted, identity)
    if home.root.exists():
        _require_room(home, found.box)
    for folder in (home.root, home.keys, home.models, home.backups):
        durable.make_private_dir(folder)
    lock = take_lock(home)
    try:
        head = _newest_head(home, found, wanted.heads)
        _lay(home, found, head)
        done = Unboxed(
            origin=found.box.origin,
            vkey=found.verifiers[0].text(),
            head_size=checkpoint.open_checkpoint(head, *found.verifiers).size,
            made_us=found.box.made_us,
            database=None,
            num_shares=None,
            num_erased=0,
        )
        return _fill(home, clock, found, done, verify)
    finally:
        os.close(lock)


def _opened(wanted: Wanted, identity: Identity) -> _Opened:
    data = _read(wanted.box, boxes.MAX_BYTES)
    box = boxes.open_box(data, identity)
    settings = config.parse(_text(box.files[CONFIG_NAME], CONFIG_NAME), source=f"{CONFIG_NAME} of the box")
    verifiers = _verifiers(box, settings)
    database = None
    if settings.database_url == EMBEDDED:
        database = wanted.database or _beside(wanted.box, box.database)
        if database is None:
            raise SetupError(
                f"{box.database.name} does not lie beside the box file",
                code="copy_missing",
                hint="carry the copy of the database here too, or name another one: --database FILE",
            )
    elif wanted.database is not None:
        raise SetupError(
            "the record of this box lies on a server",
            code="restore_on_server",
            hint=f"leave out --database; pg_restore {box.database.name} into an empty database",
        )
    shares_file = wanted.shares or _beside(wanted.box, box.shares)
    kept = shares_file.read_bytes() if shares_file is not None else b""
    return _Opened(
        sha256=share_backups.digest_of(data),
        box=box,
        settings=settings,
        verifiers=verifiers,
        database=database,
        shares=share_backups.open_backup(kept, identity) if shares_file is not None else None,
        shares_sha256=share_backups.digest_of(kept),
    )


def _verifiers(box: Box, settings: Settings) -> tuple[Verifier, ...]:
    """The log's public keys. VerificationError where the box's files are not of one log."""
    if settings.audit.origin != box.origin:
        raise VerificationError("the box file's settings name another log than its first line")
    try:
        keys = files.keys_from(
            box.origin, box.files[f"keys/{files.KEY}"], box.files.get(f"keys/{files.SECOND_KEY}")
        )
    except ValueError as error:
        raise VerificationError("the box file's signing key is none") from error
    public = [box.files[name] for name in _PUBLIC if name in box.files]
    if public != [each.text().encode() + b"\n" for each in keys.verifiers]:
        raise VerificationError("the box file's public key is not the half of its signing key")
    head = checkpoint.open_checkpoint(_text(box.files[boxes.HEAD], "the head"), *keys.verifiers)
    if (head.origin, head.size) != (box.origin, box.tree_size):
        raise VerificationError("the box file's head is not the one that its first line tells of")
    return keys.verifiers


def _beside(box: Path, part: boxes.Part) -> Path | None:
    """The file that was made with the box. VerificationError where another one has its name."""
    path = box.with_name(part.name)
    if not path.is_file():
        return None
    if db.digest_of(path) != part.sha256:
        raise VerificationError(f"{part.name} is damaged: it is not the file that the box was made with")
    return path


def _require_room(home: Home, box: Box) -> None:
    """SetupError where the folder holds anything that this box would not put there."""
    same = {*box.files, home.latch.name, home.restored.name}
    found = []
    for path in sorted(home.root.rglob("*")):
        name = str(path.relative_to(home.root))
        if path.is_dir() or name.partition("/")[0] in _WELCOME:
            continue
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            continue  # of a file that a crash left half written
        is_ours = name in same and (name not in box.files or path.read_bytes() == box.files[name])
        if not is_ours and name != boxes.HEAD:
            found.append(name)
    if found:
        raise SetupError(
            f"{home.root} is not empty: {', '.join(found[:3])}",
            code="home_not_empty",
            hint="give an empty folder as --home; into a home that stands, copies come back with "
            "appliance db restore and appliance db restore-shares",
        )


def _newest_head(home: Home, found: _Opened, heads: Sequence[Path]) -> str:
    """What anybody remembers of the log's end: the box, this folder, or a checkpoint that was handed in."""
    notes = [_text(found.box.files[boxes.HEAD], "the head")]
    notes += [_text(_read(path, _MAX_HEAD_BYTES), path.name) for path in heads]
    if home.head.exists():
        notes.append(files.read_head(home))
    sized = []
    for note in notes:
        head = checkpoint.open_checkpoint(note, *found.verifiers)
        if head.origin != found.box.origin:
            raise RequestError(f"a checkpoint of {head.origin} is none of this log", code="other_log")
        sized.append((head.size, note))
    return max(sized, key=lambda each: each[0])[1]


def _lay(home: Home, found: _Opened, head: str) -> None:
    """The box's files. In front of the settings, what makes the log say where it comes from."""
    for name in sorted(found.box.files.keys() - {CONFIG_NAME, boxes.HEAD}):
        mode = 0o644 if name in _PUBLIC else durable.PRIVATE_FILE
        durable.write_file(home.root / name, found.box.files[name], mode=mode)
    durable.write_file(home.head, head.encode())
    Latch(home.latch).open()  # the box was on the record, so its log was open
    boxes.remember(home, backup_sha256=found.sha256, tree_size=found.box.tree_size)
    durable.write_file(home.config, found.box.files[CONFIG_NAME])


def _fill(home: Home, clock: Clock, found: _Opened, done: Unboxed, verify: Verify) -> Unboxed:
    if found.database is not None:
        placed = place_database(home, found.database, verify=verify)
    elif _is_on_server(home, found.settings):
        placed = None
    else:
        return replace(
            done,
            awaited=f"pg_restore {found.box.database.name} into an empty database of the server that "
            "appliance.toml names, then: appliance db restore-shares",
        )
    entries = [] if placed is None else [placed.entry]
    kept: list[Share] = []
    if found.shares is not None:
        kept = still_due(home, found.settings, found.shares)
        num_erased = len(found.shares) - len(kept)
        entries.append(shares_restored(found.shares_sha256, len(kept), num_erased))
        shares.create(home)
    try:
        record(home, found.settings, clock, entries)
    except SetupError as error:
        if placed is None:
            raise
        return replace(done, database=replace(placed, closed=error.code, hint=error.hint))
    if found.shares is None:
        return replace(done, database=placed)
    return replace(
        done,
        database=placed,
        num_shares=add_shares(home, kept),
        num_erased=len(found.shares) - len(kept),
    )


def _is_on_server(home: Home, settings: Settings) -> bool:
    try:
        return db.schema(db.of(home, settings)).state is db.SchemaState.CURRENT
    except SetupError:  # no server answers, or it does not let us in: it may come later
        return False


def _read(path: Path, most: int) -> bytes:
    if path.stat().st_size > most:
        raise VerificationError(f"{path.name} is larger than any such file is")
    return path.read_bytes()


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise VerificationError(f"{what} is no text") from error
