"""`appliance audit search`: entries by what their headers say and by whom they name, or by their contents.

The same filters, limits and records as `POST /v1/audit/events`: the search is on the record before its
result is shown.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.rows import plain
from appliance.audit.search import MAX_LIMIT, Filters, Page, search
from appliance.cli.base import (
    FILE,
    database_of,
    home_option,
    json_option,
    microseconds,
    show,
    table,
    warn,
    when,
)
from appliance.cli.finding import blinds_of
from appliance.cli.reading import identity_option, on_record, why_options
from appliance.cli.texts import find_text
from appliance.config import Home
from appliance.core import Outcome
from appliance.errors import RequestError
from appliance.why import NOT_STATED, Why

HEADER = ("SEQ", "WHEN", "KIND", "REQUEST", "SAYS")
_TOKENS = click.IntRange(0)


@click.command(name="search")
@click.option("--kind", "kinds", multiple=True, type=click.Choice([kind.value for kind in Kind]))
@click.option("--outcome", "outcomes", multiple=True, type=click.Choice([each.value for each in Outcome]))
@click.option("--model", "models", multiple=True, metavar="ID", help="Only this model's id.")
@click.option("--code", "codes", multiple=True, help="Only what was refused or failed with this code.")
@click.option("--request", "request_id", metavar="ID", help="Only one request, by its x-request-id.")
@click.option("--key", metavar="ID", help="Only what one API key asked, by its id.")
@click.option("--user", metavar="NAME", help="Only what concerns one person, as callers name them.")
@click.option("--session", metavar="ID", help="Only one conversation (metadata.session_id).")
@click.option("--address", metavar="IP", help="Only what came from one address.")
@click.option("--min-prompt-tokens", type=_TOKENS)
@click.option("--max-prompt-tokens", type=_TOKENS)
@click.option("--min-completion-tokens", type=_TOKENS)
@click.option("--max-completion-tokens", type=_TOKENS)
@click.option("--text", metavar="TEXT", help="Only exchanges whose content holds this; takes --identity.")
@identity_option
@click.option("--since", type=click.DateTime(), help="From this moment on, UTC.")
@click.option("--until", type=click.DateTime(), help="Before this moment, UTC.")
@click.option("--oldest-first", is_flag=True, help="In the order of the record.")
@click.option("--cursor", help="The next page, as the page before named it.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=20, show_default=True)
@why_options()
@click.option("--database", type=FILE, help="Read this copy; the reading can not be recorded then.")
@home_option
@json_option
def search_(
    identity_paths: tuple[Path, ...],
    since: datetime | None,
    until: datetime | None,
    cursor: str | None,
    limit: int,
    purpose: str,
    case: str,
    text: str | None,
    database: Path | None,
    home: Home,
    *,
    oldest_first: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """List entries, newest first. Headers only: no key is needed, but for names in months before this one.

    Filters narrow each other; one that is given twice takes either. A name with an outcome, a code or a
    number of tokens finds the ends of that name's exchanges.

    \b
    Examples: appliance audit search --limit 5
              appliance audit search --outcome failed --since 2026-11-01 --purpose "case 2026-17"
              appliance audit search --user citizen-17 --identity alice.identity
              appliance audit search --text "form 12" --since 2026-11-01 --identity alice.identity
    """
    filters["kinds"] = tuple(map(Kind, filters["kinds"]))
    asked = Filters(since_us=microseconds(since), until_us=microseconds(until), **filters)
    why = Why(purpose or NOT_STATED.purpose, case)
    if database is not None and (asked.names or text):
        raise RequestError(
            "names and texts are searched on the appliance's own record", code="invalid_search"
        )
    blinds = blinds_of(home, asked, identity_paths, why) if asked.names else {}
    if text is not None:
        find_text(home, text, asked, blinds, why, identity_paths, limit=limit, as_json=as_json)
        return
    page = search(
        database_of(home, database), asked, blinds, cursor=cursor, limit=limit, oldest_first=oldest_first
    )
    said = {"filters": asked.given(), "cursor": cursor, "limit": limit, "oldest_first": oldest_first}
    on_record(home, database, Kind.AUDIT_SEARCHED, {"num_results": len(page.records)}, said, why=why)
    show(plain_page(page), table(HEADER, [row_of(each) for each in page.records]), as_json=as_json)
    if page.searched_to_us is not None:
        warn(f"searched back to {when(page.searched_to_us)} so far; go on with --cursor {page.next_cursor}")


def plain_page(page: Page) -> dict[str, Any]:
    """A page for programs."""
    return {
        "entries": [plain(each) for each in page.records],
        "next_cursor": page.next_cursor,
        "searched_to_us": page.searched_to_us,
    }


def row_of(record: Record) -> tuple[str, ...]:
    """An entry on one line."""
    said = (
        f"{name}={value}"
        for name, value in record.public.items()
        if value not in ("", 0) and not name.endswith("sha256")
    )
    return (str(record.seq), when(record.ts), str(record.kind), record.request_id or "", " ".join(said))
