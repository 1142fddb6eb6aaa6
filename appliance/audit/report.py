"""What a reading of the record is measured against, and what it found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from appliance.audit.checkpoint import Verifier

MAX_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be, and where."""

    where: str
    message: str
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a healthy record is measured against. `schema` maps names to their SQL text."""

    verifier: Verifier
    schema: dict[str, str]
    revision: str
    state_tables: dict[str, str]  # table → its id column
    head_note: str | None  # content of the head file, empty where it is gone; None: nothing to compare
    others: tuple[Verifier, ...] = ()  # of the log too: each checkpoint is signed by every one of its keys
    # Ids of the shares that are there, when asked; None: this copy has no file of shares beside it.
    shares: Callable[[], AbstractSet[bytes]] | None = None
    may_be_open: bool = False  # a gateway is running: its newest requests have no closing yet


@dataclass(slots=True)
class Report:
    """The result of a reading, full or of what came since the last one."""

    begin: int = 0  # behind which entries were read: 0 for all of them
    num_entries: int = 0
    num_open: int = 0
    num_erased: int = 0  # contents that an entry tells to be erased: there, and no key opens them
    num_removed: int = 0  # contents that are gone, as an entry about retention says
    root: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_green(self) -> bool:
        return not self.findings

    @property
    def findings_sha256(self) -> str:
        """The same for the same findings, empty for none."""
        told = "\n".join(f"{each.where}\n{each.seq}\n{each.message}" for each in self.findings)
        return hashlib.sha256(told.encode()).hexdigest() if told else ""

    def add(self, where: str, message: str, seq: int | None = None) -> None:
        """Note a finding; beyond a bound only the fact that there are more matters."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(where, message, seq))


def lines_of(report: Report) -> Iterator[str]:
    """The findings, for people."""
    for each in report.findings:
        place = f"entry {each.seq}" if each.seq is not None else each.where
        yield f"{place}: {each.message}" + (f" ({each.where})" if each.seq is not None else "")


def as_json(report: Report) -> dict[str, Any]:
    """The report, for programs."""
    return {
        "green": report.is_green,
        "begin": report.begin,
        "entries": report.num_entries,
        "open": report.num_open,
        "erased": report.num_erased,
        "removed": report.num_removed,
        "root": report.root,
        "findings": [
            {"where": each.where, "seq": each.seq, "message": each.message} for each in report.findings
        ],
    }
