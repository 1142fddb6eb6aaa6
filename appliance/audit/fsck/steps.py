"""What the steps of a reading share: blocks of entries come in, findings go out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from appliance.audit.fsck.source import Source
from appliance.audit.fsck.tree import Tree
from appliance.audit.header import Header
from appliance.audit.report import Expected, Report

# A header may lack a field of its kind, or hold another type in it: a finding, never the reading's end.
MALFORMED = (LookupError, ValueError, TypeError, AttributeError)


@dataclass(slots=True)
class Block:
    """Entries side by side, as they were read. A header that can not be read is left out."""

    begin: int
    end: int
    headers: list[Header] = field(repr=False)
    acts: list[Header] = field(repr=False)  # of them, those that are not parts of a request's life


@dataclass(frozen=True, slots=True)
class Reading:
    """One pass over one record. `begin` is 0, or the size behind which only the rest is read."""

    source: Source
    expected: Expected
    report: Report
    tree: Tree
    begin: int = 0


class Step(Protocol):
    """One thing that is looked at. Its state is what is open at the moment, never all that was."""

    def take(self, block: Block) -> None:
        """Look at the next entries; the tree holds them already."""
        ...

    def finish(self) -> None:
        """Behind the last entry: what should have come and did not."""
        ...
