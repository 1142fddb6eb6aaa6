"""What an incremental reading takes from the part that was verified before.

Its tree is held against a root that was verified, so a header of that part counts once it is proven to
lie in that tree: hash by hash along its path, by nodes that the root vouches for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

from appliance.audit.fsck.source import Source
from appliance.audit.fsck.steps import Reading
from appliance.audit.fsck.tree import Tree
from appliance.audit.header import Header, decode_header
from appliance.audit.kinds import Kind
from appliance.errors import VerificationError

_sha256 = hashlib.sha256


def last_verified(source: Source) -> tuple[int, Tree] | None:
    """Where the newest green verification ended, with the tree that it found; None where none fits.

    Its record lies behind that end, among the entries that are read now, and the tree's root is part of
    the root that the log has signed since: a made-up record turns the reading red.
    """
    rows = source.execute(
        "SELECT seq, hdr FROM log_entry WHERE kind = ? ORDER BY ts DESC", (str(Kind.LOG_VERIFIED),)
    )
    for seq, data in rows:
        try:
            said = decode_header(data).pub
        except (VerificationError, TypeError):
            return None
        if said.get("findings") == 0:
            return _tree_of(source, said.get("size"), said.get("root"), seq)
    return None


def _tree_of(source: Source, size: object, root: object, seq: object) -> tuple[int, Tree] | None:
    """None also where the record lies before that end: nobody would read it again."""
    if not isinstance(size, int) or not isinstance(seq, int) or not 1 <= size <= seq:
        return None
    try:
        tree = Tree.load(size, source)
        return (size, tree) if tree.root(size).hex() == root else None
    except (LookupError, TypeError):
        return None


def headers_before(reading: Reading, kinds: Collection[str]) -> Iterator[Header]:
    """The headers of these kinds before the reading's begin, in order; what is not proven is told."""
    if not reading.begin:
        return
    marks = ", ".join("?" for _ in kinds)
    rows = reading.source.execute(
        f"SELECT seq, hdr FROM log_entry WHERE kind IN ({marks}) AND seq < ? ORDER BY seq",  # noqa: S608
        (*kinds, reading.begin),
    )
    for seq, data in rows:
        try:
            header = decode_header(data if isinstance(data, bytes) else b"")
        except VerificationError as error:
            reading.report.add("log_entry", error.message, seq)
            continue
        if header.seq != seq or not _is_included(reading, seq, data):
            reading.report.add("log_entry", "it does not lie in the tree that was verified", seq)
            continue
        yield header


def _is_included(reading: Reading, seq: int, data: bytes) -> bool:
    """RFC 9162 §2.1.3.2 upwards to the edge subtree that holds the leaf."""
    running, index, begin = _sha256(b"\x00" + data).digest(), seq, reading.begin
    level = 0
    while (index | 1) < begin >> level:  # its sibling is a complete subtree as well
        rows = reading.source.execute("SELECT h FROM node WHERE level = ? AND idx = ?", (level, index ^ 1))
        sibling = next((bytes(each) for (each,) in rows if isinstance(each, bytes)), None)
        if sibling is None:
            return False
        pair = sibling + running if index & 1 else running + sibling
        running, index, level = _sha256(b"\x01" + pair).digest(), index >> 1, level + 1
    # Now it is a node of the edge, whose hash came into the tree when that was loaded.
    return reading.tree.edge(begin, level) == running
