"""Where the verifier reads from: rows of one snapshot, whatever database holds them.

A source is all that differs between databases. Statements are the subset of SQL that all of them take,
with `?` for parameters; values arrive as int, str, bytes, float or None, as they are stored.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

Rows = Iterator[tuple[Any, ...]]

_TYPES = {"VARCHAR": str, "TEXT": str, "BLOB": bytes, "BIGINT": int, "INTEGER": int}
_CACHE_KIB = 32_768  # of pages: point reads behind a scan find the upper levels of their index there


class Source(Protocol):
    """One snapshot of one database, read-only. A context manager: the snapshot lives inside it."""

    errors: tuple[type[Exception], ...]
    """What reading raises when the database can not be read: the verifier makes findings of them."""

    def __enter__(self) -> Self:
        """Open the snapshot; it holds still whatever a running gateway adds. May raise `errors`."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the database: sqlite, postgresql."""
        ...

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """Rows as they come, never all at once in memory. Several may be open at a time."""
        ...

    def problems(self) -> Iterator[str]:
        """What the database itself finds wrong with its files, indexes included."""
        ...

    def schema(self) -> dict[str, str]:
        """Kind and name of everything that somebody defined → its definition."""
        ...

    def columns(self, table: str) -> list[tuple[str, type]]:
        """A table's columns in order, each with the Python type of its values."""
        ...


class SqliteSource:
    """An SQLite file: the live database of a home, or a copy of one."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        for pragma in ("query_only = ON", "trusted_schema = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("BEGIN")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """A cursor: SQLite hands out rows one by one."""
        return self._open.execute(sql, params)

    def problems(self) -> Iterator[str]:
        """`PRAGMA integrity_check`: pages, types, and that each index holds exactly its table's rows."""
        for (problem,) in self._open.execute("PRAGMA integrity_check"):
            if problem != "ok":
                yield str(problem)

    def schema(self) -> dict[str, str]:
        """Of this file."""
        return sqlite_schema(self._open)

    def columns(self, table: str) -> list[tuple[str, type]]:
        """By `PRAGMA table_info`."""
        rows = self._open.execute(f"PRAGMA table_info({table})")
        return [(name, _TYPES[declared.partition("(")[0]]) for _, name, declared, *_ in rows]

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the source is not open")
        return self._connection


def sqlite_schema(connection: sqlite3.Connection) -> dict[str, str]:
    """Type and name → SQL of everything that somebody defined: a trigger may be named as an index."""
    with contextlib.closing(
        connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    ) as rows:
        return {f"{kind} {name}": str(sql) for kind, name, sql in rows}
