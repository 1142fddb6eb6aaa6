"""One schema of a PostgreSQL server: a log of its own beside those of other gateways.

The schema's name follows from the log's origin, and `search_path` holds nothing else: statements are
the same as SQLite's, and one log's can not reach another's tables. The writer holds an advisory lock
for as long as its connection lives, so a connection that was cut off in the middle of a COMMIT keeps
every later writer out until the server knows how that ended.
"""

from __future__ import annotations

import hashlib
import re
import select
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo, errors
from sqlalchemy import Connection, Engine, create_engine, pool

from appliance.databases import postgres_copy
from appliance.databases.postgres_roles import Roles
from appliance.errors import SetupError, VerificationError
from appliance.log import get_logger

MIN_VERSION: Final = 140_000  # as libpq counts: 14.0
STATEMENT_SECONDS: Final = 60  # the longest one reads a whole table, at the log's start
MIGRATION_LOCK_SECONDS: Final = 10
_SECRETS: Final = ("password", "sslpassword")
# Must be so, or what the server has acknowledged is not on its disk.
_DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "data_sync_retry": "off"}
# A server that went away without a word is noticed by the kernel. The URL's own values come first.
_DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}

_T = TypeVar("_T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PostgresSchema:
    """The tables of one origin on one server. Implements `Database`."""

    origin: str
    profile: str
    commit_timeout_seconds: int
    parameters: dict[str, str] = field(repr=False)  # libpq's, the password among them
    owner_parameters: dict[str, str] | None = field(default=None, repr=False)  # for changes of the schema

    dialect = "postgresql"
    file = None
    copy_suffix = ".dump"

    @property
    def name(self) -> str:
        """The schema's name: readable, and one for each origin."""
        readable = re.sub(r"[^a-z0-9]+", "_", self.origin).strip("_")[:40]
        return f"log_{readable}_{hashlib.sha256(self.origin.encode()).hexdigest()[:8]}"

    @property
    def roles(self) -> Roles:
        """The group roles of this schema."""
        return Roles(self.name)

    @property
    def place(self) -> dict[str, str]:
        """The connection's parameters without what is secret."""
        return {name: value for name, value in self.parameters.items() if name not in _SECRETS}

    def __str__(self) -> str:
        where = " ".join(f"{name}={value}" for name, value in sorted(self.place.items()))
        return f"postgresql {where} schema={self.name}"

    def exists(self) -> bool:
        """Whether there is a schema. SetupError where the server does not answer."""
        with self.connect() as connection:
            found = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (self.name,)).fetchone()
        return bool(found and found[0])

    def open_writer(self) -> PostgresWriter:
        """Connect as the append-only role, check the server's settings, take the lock for good."""
        raw = self.connect(lock_seconds=self.commit_timeout_seconds, statement_seconds=STATEMENT_SECONDS)
        try:
            self._require_durable(raw)
            self.roles.become_writer(raw, profile=self.profile)
            self._take_lock(raw)
            raw.commit()  # what was set outlives the transaction that set it
        except BaseException:
            raw.close()
            raise
        return PostgresWriter(raw)

    def migrator(self) -> Engine:
        """As the schema's owner: `owner_parameters`, or the gateway's own login where there are none."""

        def connect() -> psycopg.Connection[Any]:
            raw = self.connect(as_owner=True, lock_seconds=MIGRATION_LOCK_SECONDS)
            try:
                self._take_lock(raw)
                raw.commit()
            except BaseException:
                raw.close()
                raise
            return raw

        return _engine(connect, poolclass=pool.StaticPool)

    def prepare(self, connection: Connection) -> None:
        """The schema and its roles."""
        self.roles.create(connection, login=self.login())

    def grant(self, connection: Connection) -> None:
        """Who may do what with each table."""
        self.roles.grant(connection)

    def login(self) -> str:
        """The role that the gateway logs in as."""
        return self.parameters.get("user") or self.connect_once(lambda raw: raw.info.user)

    def reader(self) -> Engine:
        """Each transaction is one snapshot, and read-only by a setting of the session."""

        def connect() -> psycopg.Connection[Any]:
            raw = self.connect(
                settings={
                    "default_transaction_read_only": "on",
                    "default_transaction_isolation": "repeatable\\ read",
                }
            )
            try:
                if self.roles.become_reader(raw) is None and self.owner_parameters is None:
                    self.roles.require_usage(raw)
                raw.commit()
            except BaseException:
                raw.close()
                raise
            return raw

        return _engine(connect, poolclass=pool.NullPool)

    def version(self) -> str:
        """The server's product and version."""
        return self.connect_once(
            lambda raw: f"postgresql {raw.info.server_version // 10_000}.{raw.info.server_version % 10_000}"
        )

    def copy_to(self, target: Path) -> None:
        """By `pg_dump`, of this schema alone; the password goes by a file that only we read."""
        with tempfile.TemporaryDirectory() as directory:
            parameters = dict(self.place)
            if secret := self.parameters.get("password"):
                parameters["passfile"] = str(postgres_copy.passfile(Path(directory), secret))
            role = self.connect_once(self.roles.become_reader)
            postgres_copy.dump(conninfo.make_conninfo("", **parameters), self.name, role, target)

    def connect(
        self,
        *,
        as_owner: bool = False,
        lock_seconds: int = 0,
        statement_seconds: int = 0,
        settings: dict[str, str] | None = None,
    ) -> psycopg.Connection[Any]:
        """A connection that sees this schema and nothing else. SetupError where there is none.

        `settings` are in the syntax of libpq's `options`: blanks in a value need a backslash.
        """
        wanted = {
            "search_path": self.name,
            "synchronous_commit": "on",
            "timezone": "UTC",
            "client_min_messages": "warning",
            "lock_timeout": f"{lock_seconds}s",
            "statement_timeout": f"{statement_seconds}s",
            **(settings or {}),
        }
        given = dict(self.owner_parameters if as_owner and self.owner_parameters else self.parameters)
        options = [given.pop("options", ""), *(f"-c {name}={value}" for name, value in wanted.items())]
        parameters = {
            **_DEFAULTS,
            "tcp_user_timeout": str(self.commit_timeout_seconds * 1000),
            "application_name": f"appliance {self.origin}"[:63],
            **given,
            "options": " ".join(filter(None, options)),
        }
        try:
            raw = psycopg.connect(conninfo.make_conninfo("", **parameters))
        except psycopg.Error as error:
            raise SetupError(
                f"the database server does not take the connection: {self._without_secret(error)}",
                code="database_unreachable",
                hint="appliance doctor checks it; the password can lie in a passfile (see the guide)",
            ) from None  # the driver's error may quote the connection's parameters
        if raw.info.server_version < MIN_VERSION:
            raw.close()
            raise SetupError(
                f"the server is PostgreSQL {raw.info.server_version // 10_000}, 14 or newer is needed",
                code="database_settings",
            )
        return raw

    def connect_once(self, ask: Callable[[psycopg.Connection[Any]], _T]) -> _T:
        """The answer of a connection that is closed behind it."""
        with self.connect() as raw:
            return ask(raw)

    def unsafe_settings(self, raw: psycopg.Connection[Any]) -> list[str]:
        """Settings of the server that would lose what it has acknowledged."""
        found = {name: show(raw, name) for name in _DURABLE}
        return [f"{name}={value}" for name, value in found.items() if value != _DURABLE[name]]

    def _require_durable(self, raw: psycopg.Connection[Any]) -> None:
        """`synchronous_commit` is ours to set; the server's own settings count in production."""
        if show(raw, "synchronous_commit") != "on":
            raise _unfit("synchronous_commit is not on")
        if show(raw, "server_encoding") != "UTF8":
            raise _unfit("the database's encoding is not UTF8")
        if raw.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
            raise _unfit("the server is a standby, which takes no writes")
        if unsafe := self.unsafe_settings(raw):
            if self.profile == "production":
                raise _unfit(f"the server would lose acknowledged records: {', '.join(unsafe)}")
            log.warning("database_not_durable", settings=unsafe)

    def _take_lock(self, raw: psycopg.Connection[Any]) -> None:
        """A session's lock: the server lets go of it with the connection, and never before."""
        digest = hashlib.sha256(b"appliance audit log\n" + self.origin.encode()).digest()
        try:
            raw.execute("SELECT pg_advisory_lock(%s)", (int.from_bytes(digest[:8], "big", signed=True),))
        except (errors.LockNotAvailable, errors.QueryCanceled) as error:
            raise SetupError(
                "another appliance process writes this log on the database server",
                code="already_running",
                hint="two homes with one audit.origin? a connection that was cut off may still be ending",
            ) from error

    def _without_secret(self, error: psycopg.Error) -> str:
        text = " ".join(str(error).split())
        for parameters in filter(None, (self.parameters, self.owner_parameters)):
            for name in _SECRETS:
                if secret := parameters.get(name):
                    text = text.replace(secret, "***")
        return text


class PostgresWriter:
    """Implements `Writer`: the connection that holds the lock."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._raw = raw
        self._doubt = ""  # written by the thread that commits, read by every thread
        raw.add_notice_handler(self._on_notice)
        # One connection for good: SQLAlchemy can not put another one in the place of a lost one.
        self._engine = _engine(lambda: raw, poolclass=pool.StaticPool)
        try:
            self.connection = self._engine.connect()
        except BaseException:
            raw.close()
            raise

    def check(self) -> None:
        """Without a word to the server: has it hung up, or warned at a commit?"""
        if self._doubt:
            raise VerificationError(f"the database server warned: {self._doubt}")
        if self._raw.closed or self._raw.broken or _hung_up(self._raw):
            raise VerificationError("the connection to the database server is lost")

    def checkpoint(self) -> None:
        """The server's own business."""

    def close(self) -> None:
        """Close the connection first: the lock goes with it, whatever state a transaction is in."""
        self._raw.close()
        self.connection.invalidate()
        self.connection.close()
        self._engine.dispose()

    def _on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # Such as a wait for a standby that was given up: the commit is local then, and may not last.
        if notice.severity_nonlocalized == "WARNING":
            self._doubt = self._doubt or " ".join((notice.message_primary or "").split())


def parse(url: str) -> dict[str, str]:
    """A URL as libpq reads it. SetupError without its text: it may hold a password."""
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise SetupError(
            "the database's URL is not one that libpq takes",
            code="bad_config",
            hint="postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full&passfile=FILE",
        ) from None


def show(raw: psycopg.Connection[Any], name: str) -> str:
    """A setting, as this session sees it."""
    row = raw.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def _hung_up(raw: psycopg.Connection[Any]) -> bool:
    poll = select.poll()
    try:
        poll.register(raw.fileno(), select.POLLRDHUP)  # POLLHUP and POLLERR are always told
    except psycopg.Error:
        return True
    return bool(poll.poll(0))


def _engine(connect: Any, *, poolclass: type[pool.Pool]) -> Engine:
    # Errors must not quote what went into a statement.
    return create_engine("postgresql+psycopg://", creator=connect, poolclass=poolclass, hide_parameters=True)


def _unfit(why: str) -> SetupError:
    return SetupError(why, code="database_settings", hint="see deploy/guides/postgresql.md")
