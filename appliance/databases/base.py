"""The one value that stands for a database, wherever it is. Everybody else hands it on unopened."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine


class Writer(Protocol):
    """The one connection that writes a log. Owned by the thread that opened it, but for `check`."""

    @property
    def connection(self) -> Connection:
        """Its transactions are the log's commits."""
        ...

    def check(self) -> None:
        """VerificationError where the connection is lost or a commit was doubted. Any thread; never waits."""
        ...

    def checkpoint(self) -> None:
        """Move what was written ahead into its place, as far as readers let it. Outside a transaction."""
        ...

    def close(self) -> None:
        """Let go of the connection and of what it locks."""
        ...


class Database(Protocol):
    """Where a log's tables are. Immutable; printing it shows no secret."""

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of it: sqlite, postgresql."""
        ...

    @property
    def file(self) -> Path | None:
        """The file that must stay the one at its path while it is written; None on a server."""
        ...

    @property
    def copy_suffix(self) -> str:
        """Of the files that `copy_to` makes."""
        ...

    def exists(self) -> bool:
        """Whether anything is there, tables or not. SetupError where that can not be found out."""
        ...

    def open_writer(self) -> Writer:
        """Become the one writer. SetupError where somebody else is, or where it would not be durable."""
        ...

    def migrator(self) -> Engine:
        """An engine for one transaction that changes the schema."""
        ...

    def prepare(self, connection: Connection) -> None:
        """What the migrations need before they can begin, made where it is missing."""
        ...

    def grant(self, connection: Connection) -> None:
        """What follows every change of the schema: who may do what."""
        ...

    def reader(self) -> Engine:
        """An engine that can not write, and whose transactions are snapshots."""
        ...

    def version(self) -> str:
        """Product and version, for the record."""
        ...

    def copy_to(self, target: Path) -> None:
        """A consistent copy in a private file, beside a running writer. SetupError where it fails."""
        ...
