"""`appliance audit search --text`: through the contents of the exchanges that the filters find.

The auditor's key stays in this process; the appliance releases each batch's shares on the record first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.audit import query, text
from appliance.audit.kinds import Kind
from appliance.audit.search import Blinds, Filters
from appliance.audit.text import Match
from appliance.auditing import TEXT_BATCH
from appliance.cli.base import database_of, show, table, warn, when
from appliance.cli.progress import Progress
from appliance.cli.reading import identities_of, on_record
from appliance.config import Home
from appliance.why import Why


def find_text(
    home: Home,
    wanted: str,
    filters: Filters,
    blinds: Blinds,
    why: Why,
    identity_paths: Sequence[Path],
    *,
    limit: int,
    as_json: bool,
) -> None:
    """Show the newest `limit` exchanges whose contents hold the text."""
    text.check(wanted)
    identities = identities_of(home, identity_paths)
    reader = " ".join(each.recipient.fingerprint for each in identities)
    place = database_of(home)
    asked = {"filters": filters.given(), "text": wanted}
    on_record(home, None, Kind.AUDIT_SEARCHED, {}, asked, why=why, reader=reader)
    exchanges = text.Exchanges(place, filters, blinds)
    progress = Progress("searching")
    newest = query.search(place, limit=1)[0].seq + 1
    matches: list[Match] = []
    num_searched = num_sealed = num_wordless = 0
    while len(matches) < limit and (batch := exchanges.next(TEXT_BATCH)):
        records = [one for each in batch.exchanges for one in each]
        needed = query.shares_of(records)
        public: dict[str, str | int] = {"num_records": len(records), "num_shares": len(needed)}
        shares = (
            on_record(home, None, Kind.AUDIT_RELEASED, public, asked, needed, why=why, reader=reader)
            if needed
            else {}
        )
        found = text.find(place, batch, wanted, identities, shares)
        matches += found.matches
        num_searched += found.num_searched
        num_sealed += found.num_sealed
        num_wordless += found.num_wordless
        progress.update(newest - min(each.seq for each in records), newest)
    shown = matches[:limit]
    if num_sealed:
        warn(f"{num_sealed} exchanges open for nobody any more: they are erased")
    if num_wordless:
        warn(f"of {num_wordless} exchanges no words are kept: they were looked through for names only")
    rows = [
        (str(hit.seq), when(each.records[0].ts), hit.where, hit.excerpt)
        for each in shown
        for hit in each.hits
    ]
    result = {
        "matches": [
            {
                "seqs": [one.seq for one in each.records],
                "request_id": each.records[0].request_id,
                "hits": [{"seq": hit.seq, "where": hit.where, "excerpt": hit.excerpt} for hit in each.hits],
            }
            for each in shown
        ],
        "num_searched": num_searched,
        "num_erased": num_sealed,
        "num_without_words": num_wordless,
    }
    lines = [*table(("SEQ", "WHEN", "WHERE", "TEXT"), rows), f"{num_searched} exchanges were looked through"]
    show(result, lines, as_json=as_json)
