"""`python -m tests.postgres.schema`: write migrations/postgresql.schema.json anew, behind a new revision."""

from __future__ import annotations

import json

from appliance import db
from appliance.audit.fsck.postgres import EXPECTED_SCHEMA, PostgresSource
from appliance.databases.postgres import PostgresSchema, parse
from tests.servers import OWNER, server

if __name__ == "__main__":
    with server() as running:
        place = PostgresSchema(
            origin="schema/audit/1",
            profile="dev",
            commit_timeout_seconds=2,
            parameters=parse(running.url(OWNER, running.new_database())),
        )
        db.change_schema(place, "head")
        with PostgresSource(place) as source:
            found = source.schema()
        EXPECTED_SCHEMA.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
