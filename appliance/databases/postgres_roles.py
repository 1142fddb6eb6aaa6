"""Who may do what in a log's schema: an owner that changes it, a writer that appends, a reader.

The writer is the role that the gateway works as. It inserts and reads; it updates only tables that no
trigger keeps from that (the newest checkpoint, state rows); it deletes and truncates nothing. Contents
go by `delete_contents` alone, which demands the record of an erasure or of a retention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import errors
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from appliance.errors import SetupError

VERSION_TABLE: Final = "alembic_version"


@dataclass(frozen=True, slots=True)
class Roles:
    """The group roles of one schema. Names hold only a-z, 0-9 and _: they need no quotes."""

    schema: str

    @property
    def writer(self) -> str:
        """Whom the gateway's login is a member of."""
        return f"{self.schema}_writer"

    @property
    def reader(self) -> str:
        """Whom the logins of auditors' tools are members of."""
        return f"{self.schema}_reader"

    def sql(self, login: str, owner: str) -> list[str]:
        """What an administrator of the server runs where the owner may not create roles itself."""
        quoted = '"' + login.replace('"', '""') + '"'
        owned_by = '"' + owner.replace('"', '""') + '"'
        return [
            f"CREATE ROLE {self.writer} NOLOGIN;",
            f"CREATE ROLE {self.reader} NOLOGIN;",
            f"CREATE SCHEMA {self.schema} AUTHORIZATION {owned_by};",
            f"GRANT {self.writer} TO {quoted};",
        ]

    def create(self, connection: Connection, *, login: str) -> None:
        """Make what is missing of schema, roles and membership. SetupError names the statements."""
        owner = str(connection.exec_driver_sql("SELECT current_user").scalar_one())
        present = set(
            connection.exec_driver_sql(
                "SELECT rolname FROM pg_roles WHERE rolname IN (%s, %s)", (self.writer, self.reader)
            ).scalars()
        )
        has_schema = connection.exec_driver_sql(
            "SELECT to_regnamespace(%s) IS NOT NULL", (self.schema,)
        ).scalar_one()
        writer, reader, schema, membership = self.sql(login, owner)
        missing = [
            statement
            for statement, is_missing in (
                (writer, self.writer not in present),
                (reader, self.reader not in present),
                (schema, not has_schema),
            )
            if is_missing
        ]
        is_member = (
            self.writer in present
            and connection.exec_driver_sql(
                "SELECT pg_has_role(%s::name, %s::name, 'MEMBER')", (login, self.writer)
            ).scalar_one()
        )
        if not is_member:
            missing.append(membership)
        try:
            for statement in missing:
                connection.exec_driver_sql(statement.replace("%", "%%"))
        except ProgrammingError as error:
            if not isinstance(error.orig, errors.InsufficientPrivilege):
                raise
            raise SetupError(
                f"the role {owner} may not set up the log's schema",
                code="database_role",
                hint="an administrator of the server runs: " + " ".join(missing),
            ) from error
        self._become_owner(connection)

    def _become_owner(self, connection: Connection) -> None:
        """Until the transaction's end, so that everything in the schema has one owner."""
        owner, is_member = connection.exec_driver_sql(
            "SELECT nspowner::regrole::text, pg_has_role(nspowner, 'MEMBER') FROM pg_namespace "
            "WHERE nspname = %s",
            (self.schema,),
        ).one()
        if not is_member:
            raise SetupError(
                f"the log's schema is changed by its owner, {owner}",
                code="database_role",
                hint="pass --owner-url postgresql://… with a login that is a member of that role",
            )
        connection.exec_driver_sql(f"SET LOCAL ROLE {owner}".replace("%", "%%"))

    def grant(self, connection: Connection) -> None:
        """Rights by what each table is; asked of the catalogue, so that no list can fall behind."""
        tables = connection.exec_driver_sql(
            """
            SELECT c.relname, EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid
                                      AND t.tgname = c.relname || '_no_update')
            FROM pg_class c WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' ORDER BY 1
            """,
            (self.schema,),
        ).all()
        both = f"{self.writer}, {self.reader}"
        statements = [
            f"REVOKE ALL ON SCHEMA {self.schema} FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA {self.schema} TO {both}",
            f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {self.schema} FROM PUBLIC",
            f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {self.schema} TO {self.writer}",
        ]
        for table, is_append_only in tables:
            statements.append(f"REVOKE ALL ON {table} FROM PUBLIC, {both}")
            statements.append(f"GRANT SELECT ON {table} TO {both}")
            if table != VERSION_TABLE:
                acts = "INSERT" if is_append_only else "INSERT, UPDATE"
                statements.append(f"GRANT {acts} ON {table} TO {self.writer}")
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))

    def become_writer(self, raw: psycopg.Connection[Any], *, profile: str) -> str:
        """From here on this connection appends and does nothing else. What there is to say of the login.

        SetupError for a login that is no member; in production also for one that could own the tables.
        """
        login = raw.info.user
        if self._become(raw, self.writer) is None:
            raise self._no_member(login)
        if not self.is_too_powerful(raw):
            return f"{login} is a member of {self.writer}, which only appends"
        if profile == "production":
            raise SetupError(
                f"the login {login} owns the log's tables: it could change the record",
                code="database_role",
                hint=f"give the gateway a login that is a member of {self.writer} only, and keep the "
                "owner's for --owner-url",
            )
        return f"{login} works as {self.writer}, but owns the tables too (profile dev)"

    def become_reader(self, raw: psycopg.Connection[Any]) -> str | None:
        """The role with the fewest rights that reads; None where there is none (yet)."""
        return self._become(raw, self.reader) or self._become(raw, self.writer)

    def require_usage(self, raw: psycopg.Connection[Any]) -> None:
        """SetupError where the login may not even look: its tables would seem to be missing."""
        row = raw.execute("SELECT has_schema_privilege(%s, 'USAGE')", (self.schema,)).fetchone()
        if not (row and row[0]):
            raise self._no_member(raw.info.user)

    def is_too_powerful(self, raw: psycopg.Connection[Any]) -> bool:
        """Whether the login is a superuser, or could become the schema's owner."""
        row = raw.execute(
            """
            SELECT r.rolsuper OR pg_has_role(r.oid, n.nspowner, 'MEMBER')
            FROM pg_roles r, pg_namespace n WHERE r.rolname = session_user AND n.nspname = %s
            """,
            (self.schema,),
        ).fetchone()
        return bool(row and row[0])

    def _no_member(self, login: str) -> SetupError:
        return SetupError(
            f"the login {login} is no member of {self.writer}",
            code="database_role",
            hint=f'the schema\'s owner runs: GRANT {self.writer} TO "{login}";',
        )

    def _become(self, raw: psycopg.Connection[Any], role: str) -> str | None:
        row = raw.execute(
            "SELECT pg_has_role(session_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = %s", (role,)
        ).fetchone()
        if row is None or not row[0]:
            return None
        raw.execute(psycopg.sql.SQL("SET ROLE {}").format(psycopg.sql.Identifier(role)))
        return role
