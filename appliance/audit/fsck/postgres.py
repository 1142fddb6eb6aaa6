"""Where the verifier reads from on a server: one snapshot of one log's schema, by cursors of the server.

What a schema should be is not asked of the server, and not made there either: an auditor's login may
make nothing. `migrations/postgresql.schema.json` holds it, written from a fresh migration; a test makes
one anew and compares.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from appliance.audit.fsck.source import Rows
from appliance.databases.postgres import PostgresSchema
from appliance.db import MIGRATIONS

EXPECTED_SCHEMA: Final = MIGRATIONS / "postgresql.schema.json"
_BATCH_ROWS: Final = 2000
_TYPES: Final = {"character varying": str, "text": str, "bytea": bytes, "bigint": int, "integer": int}


class PostgresSource:
    """The schema of one origin. Implements `Source`."""

    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    dialect = "postgresql"

    def __init__(self, place: PostgresSchema) -> None:
        self._place = place
        self._raw: psycopg.Connection[Any] | None = None
        self._names = itertools.count()

    def __enter__(self) -> Self:
        self._raw = self._place.connect(
            settings={
                "default_transaction_read_only": "on",
                "default_transaction_isolation": "repeatable\\ read",
                "jit": "off",
            }
        )
        self._place.roles.become_reader(self._raw)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """By a cursor of the server's: rows come in pieces, and several cursors may be open at a time."""
        cursor = self._open.cursor(name=f"verify_{next(self._names)}")
        cursor.itersize = _BATCH_ROWS
        try:
            cursor.execute(sql.replace("%", "%%").replace("?", "%s").encode(), params)
        except BaseException:
            cursor.close()
            raise
        return self._rows(cursor)

    def problems(self) -> Iterator[str]:
        """Pages whose checksum failed; and by amcheck, where it is installed, indexes against tables."""
        row = self._open.execute(
            "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        if row and row[0]:
            yield f"{row[0]} pages failed their checksum"
        rows = self._open.execute(
            """
            SELECT c.relname, n.nspname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_proc p ON p.proname = 'bt_index_check' AND p.pronargs = 2
            JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE c.relnamespace = %s::regnamespace AND has_function_privilege(p.oid, 'EXECUTE')
            """,
            (self._place.name,),
        ).fetchall()
        for index, namespace in rows:
            try:
                with self._open.transaction():
                    self._open.execute(
                        psycopg.sql.SQL("SELECT {}.bt_index_check(%s::regclass, true)").format(
                            psycopg.sql.Identifier(namespace)
                        ),
                        (f"{self._place.name}.{index}",),
                    )
            except psycopg.Error as error:
                yield f"index {index}: {error.diag.message_primary or type(error).__name__}"

    def schema(self) -> dict[str, str]:
        """Tables, columns, constraints, indexes, triggers, rules, functions, and who may do what."""
        found = self._open.execute(_SCHEMA, {"schema": self._place.name}).fetchall()
        return {
            str(name).replace(self._place.name, "SCHEMA"): str(text).replace(self._place.name, "SCHEMA")
            for name, text in found
        }

    def columns(self, table: str) -> list[tuple[str, type]]:
        """By the catalogue."""
        rows = self._open.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            (self._place.name, table),
        )
        return [(name, _TYPES[declared]) for name, declared in rows]

    def _rows(self, cursor: psycopg.ServerCursor[Any]) -> Rows:
        with cursor:
            yield from cursor

    @property
    def _open(self) -> psycopg.Connection[Any]:
        if self._raw is None:
            raise psycopg.InterfaceError("the source is not open")
        return self._raw


def expected_schema() -> dict[str, str]:
    """What this release's migrations make on PostgreSQL 14 and newer."""
    expected: dict[str, str] = json.loads(EXPECTED_SCHEMA.read_text(encoding="utf-8"))
    return expected


# Owners' names and their own rights differ from site to site, so rights are told for everybody else.
_SCHEMA: Final = """
WITH space AS (SELECT oid, nspowner, nspacl FROM pg_namespace WHERE nspname = %(schema)s),
relation AS (
    SELECT c.* FROM pg_class c, space WHERE c.relnamespace = space.oid
),
rights (what, owner, acl) AS (
    SELECT 'schema', nspowner, nspacl FROM space
    UNION ALL SELECT 'relation ' || relname, relowner, relacl FROM relation
    UNION ALL SELECT 'column ' || relname || '.' || attname, relowner, attacl
        FROM relation JOIN pg_attribute ON attrelid = relation.oid WHERE attacl IS NOT NULL
    UNION ALL SELECT 'function ' || p.oid::regprocedure, proowner,
        coalesce(proacl, acldefault('f', proowner)) FROM pg_proc p, space WHERE pronamespace = space.oid
    UNION ALL SELECT 'default ' || defaclobjtype::text, defaclrole, defaclacl
        FROM pg_default_acl, space WHERE defaclnamespace = space.oid
)
SELECT 'rights on ' || what,
    string_agg(coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type || CASE WHEN a.is_grantable
        THEN ' to grant' ELSE '' END, ', ' ORDER BY r.rolname, a.privilege_type)
FROM rights CROSS JOIN LATERAL aclexplode(acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE a.grantee <> owner GROUP BY what
UNION ALL
SELECT 'relation ' || relname,
    concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity, relispartition,
        relhassubclass, 'of the schema''s owner ' || (relowner = space.nspowner)) FROM relation, space
UNION ALL
SELECT 'column ' || relname || '.' || attname,
    concat_ws(' ', row_number() OVER (PARTITION BY attrelid ORDER BY attnum),
        format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
        pg_get_expr(adbin, adrelid), (SELECT collname FROM pg_collation WHERE oid = attcollation))
FROM relation JOIN pg_attribute a ON a.attrelid = relation.oid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE relkind <> 'i' AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'constraint ' || relname || '.' || conname,
    concat_ws(' ', contype, pg_get_constraintdef(c.oid), convalidated, condeferrable, condeferred)
FROM pg_constraint c JOIN relation ON relation.oid = conrelid WHERE contype IN ('p', 'u', 'c', 'f', 'x', 't')
UNION ALL
SELECT 'index ' || relname, concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid, indisready, indislive)
FROM pg_index JOIN relation ON relation.oid = indexrelid
UNION ALL
SELECT 'trigger ' || relname || '.' || tgname, concat_ws(' ', tgenabled, pg_get_triggerdef(t.oid))
FROM pg_trigger t JOIN relation ON relation.oid = tgrelid WHERE NOT tgisinternal
UNION ALL
SELECT 'rule ' || relname || '.' || rulename, pg_get_ruledef(w.oid)
FROM pg_rewrite w JOIN relation ON relation.oid = ev_class
UNION ALL
SELECT 'policy ' || relname || '.' || polname, concat_ws(' ', polcmd, polpermissive,
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM pg_policy JOIN relation ON relation.oid = polrelid
UNION ALL
SELECT 'function ' || p.oid::regprocedure, concat_ws(' ', prokind, lanname, prosecdef, proconfig,
    provolatile, proowner = space.nspowner, prosrc)
FROM space JOIN pg_proc p ON pronamespace = space.oid JOIN pg_language l ON l.oid = prolang
"""
