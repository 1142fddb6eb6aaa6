"""Search through contents: which exchanges hold a text, in what was asked, answered or said besides.

Pieces of a streamed answer are put together first, so that a word on the border of two is found. Upper and
lower case are the same, and so are the forms of a letter that Unicode calls compatible.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from appliance.audit import query
from appliance.audit.contents import STREAMED, are_words_kept, pieces
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened, Record
from appliance.audit.recipients import Identity
from appliance.audit.search import Blinds, Filters, search
from appliance.clock import Clock
from appliance.db import Place
from appliance.errors import RequestError

MIN_CHARACTERS: Final = 2
MAX_CHARACTERS: Final = 500
AROUND: Final = 60  # characters shown on each side of what was found
_MAX_HITS: Final = 20  # of one exchange
_NOT_WORDS: Final = STREAMED | {"key"}
_ASKED: Final = (Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED, Kind.REQUEST_REFUSED)


@dataclass(frozen=True, slots=True)
class Hit:
    """One place where the text stands: the entry, which part of it, and what stands around it."""

    seq: int
    where: str
    excerpt: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Match:
    """One exchange, or one entry that belongs to none, with its hits."""

    records: tuple[Record, ...]
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Exchanges that are to be looked through."""

    exchanges: tuple[tuple[Record, ...], ...]
    searched_to_us: int | None

    def __bool__(self) -> bool:
        return bool(self.exchanges)


@dataclass(frozen=True, slots=True)
class Found:
    """What one batch had: matches, newest first; how many exchanges were opened, how many can not be."""

    matches: tuple[Match, ...]
    num_searched: int
    num_sealed: int  # without a share any more: erased
    num_wordless: int  # of keys whose words are not kept
    searched_to_us: int | None


def check(wanted: str) -> None:
    """RequestError for a text that is too short or too long to look for."""
    if not len(wanted.strip()) >= MIN_CHARACTERS or len(wanted) > MAX_CHARACTERS:
        raise RequestError(
            f"a text to look for has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters",
            code="invalid_search",
            param="text",
        )


class Exchanges:
    """The exchanges that filters find, newest first, each once, in batches. Owner: one search."""

    def __init__(self, place: Place, filters: Filters, blinds: Blinds, *, clock: Clock | None = None) -> None:
        self._place = place
        # What people asked and were told; earlier searches for the same text are not looked through.
        self._filters = filters if filters.kinds else replace(filters, kinds=_ASKED)
        self._blinds = blinds
        self._clock = clock
        self._cursor: str | None = None
        self._is_over = False
        self._seen: set[str] = set()

    def next(self, num: int) -> Batch:
        """The next ones, `num` at most; an empty batch at the end. Reads the disk."""
        found: list[tuple[Record, ...]] = []
        last_us: int | None = None
        while not found and not self._is_over:
            page = search(
                self._place, self._filters, self._blinds, cursor=self._cursor, limit=num, clock=self._clock
            )
            for record in page.records:
                if record.request_id is None:
                    found.append((record,))
                elif record.request_id not in self._seen:
                    self._seen.add(record.request_id)
                    found.append(tuple(query.by_request(self._place, record.request_id)))
                last_us = record.ts
            last_us = page.searched_to_us or last_us
            self._cursor = page.next_cursor
            self._is_over = self._cursor is None
        return Batch(tuple(found), last_us)


def find(
    place: Place,
    batch: Batch,
    wanted: str,
    identities: Sequence[Identity],
    shares: Mapping[str, bytes],
) -> Found:
    """What a batch has of a text. VerificationError where a content that has a share does not open."""
    needle = folded(wanted.strip())
    opened = iter(
        query.open_records(place, [one for each in batch.exchanges for one in each], identities, shares)
    )
    matches = []
    num_sealed = num_wordless = 0
    for exchange in batch.exchanges:
        num_wordless += not are_words_kept(exchange)
        contents = [next(opened) for _ in exchange]
        num_sealed += all(each.content is None for each in contents)
        if hits := hits_of(contents, needle):
            matches.append(Match(exchange, tuple(hits)))
    return Found(tuple(matches), len(batch.exchanges), num_sealed, num_wordless, batch.searched_to_us)


def hits_of(contents: Sequence[Opened], needle: str) -> list[Hit]:
    """Where a folded text stands in an exchange, at most so many times."""
    hits: list[Hit] = []
    for seq, where, said in _parts(contents):
        at = folded(said).find(needle)
        if at >= 0:
            hits.append(Hit(seq, where, _excerpt(said, needle, at)))
            if len(hits) == _MAX_HITS:
                break
    return hits


def folded(text: str) -> str:
    """As it is compared."""
    return unicodedata.normalize("NFKC", text).casefold()


def _parts(contents: Sequence[Opened]) -> Iterator[tuple[int, str, str]]:
    """(seq, where, text) of everything that a person wrote or was told; each answer in one piece."""
    answers: dict[int, str] = {}
    begins: dict[int, int] = {}  # where each choice's answer begins
    for each in contents:
        content = each.content or {}
        for choice, text in pieces(content):
            begins.setdefault(choice, each.record.seq)
            answers[choice] = answers.get(choice, "") + text
        for name, value in content.items():
            if name not in _NOT_WORDS:
                yield from ((each.record.seq, where, said) for where, said in _texts(name, value))
    for choice, answer in sorted(answers.items()):
        yield begins[choice], f"answer[{choice}]" if len(answers) > 1 else "answer", answer


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield where, value
        case list() | tuple():
            for number, each in enumerate(value):
                yield from _texts(f"{where}[{number}]", each)
        case dict():
            for name, each in value.items():
                yield from _texts(f"{where}.{name}", each)


def _excerpt(said: str, needle: str, at: int) -> str:
    """What stands around; folding may have moved the place by a little, so there is some more of it."""
    begin, end = max(0, at - AROUND), at + len(needle) + AROUND
    return ("…" if begin else "") + said[begin:end] + ("…" if end < len(said) else "")
