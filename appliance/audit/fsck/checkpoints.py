"""Checkpoints: signed by the log, and of this very tree. The head file remembers one, too."""

from __future__ import annotations

from typing import Any

from appliance.audit import checkpoint
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.tree import Tree
from appliance.audit.kinds import Kind
from appliance.errors import VerificationError

_FIRST = -(1 << 63)  # before every size that a column can hold


class Checkpoints:
    """Kept checkpoints as the tree passes their sizes; the newest and the head file at the end."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._source = reading.source
        self._report = reading.report
        # One of exactly the begin's size belongs to an epoch behind it: both come with one commit.
        self._kept = reading.source.execute(
            "SELECT size, note FROM checkpoint WHERE size >= ? ORDER BY size", (reading.begin or _FIRST,)
        )
        self._next = next(self._kept, None)
        self._unclaimed: list[int] = []  # kept checkpoints whose epoch is still to come
        self._head = self._remembered()

    def take(self, block: Block) -> None:
        """Those of sizes within the block."""
        while self._next is not None and isinstance(self._next[0], int) and self._next[0] <= block.end:
            self._take_kept()
        if self._head is not None and self._head.size <= block.end:
            self._compare("head", self._head)
            self._head = None
        for header in block.acts:
            if header.kind == Kind.EPOCH_OPENED:
                self._claim(header.seq)

    def finish(self) -> None:
        """The newest checkpoint, what no epoch claimed, and what was signed for a longer log."""
        size = self._reading.tree.size
        newest = list(self._source.execute("SELECT id, size, note FROM tree_head"))
        if [(one, its_size) for one, its_size, _ in newest] != [(1, size)]:
            self._report.add("tree_head", "the newest checkpoint is not for the whole tree")
        for _, its_size, note in newest:
            self._check("tree_head", note, its_size)
        while self._next is not None:
            self._take_kept()
        for each in self._unclaimed:
            self._report.add("checkpoint", f"the checkpoint of size {each} belongs to no epoch")
        if self._head is not None:
            self._compare("head", self._head)

    def _take_kept(self) -> None:
        if self._next is not None:
            size, note = self._next
            self._check("checkpoint", note, size)
            self._unclaimed.append(size)
            self._next = next(self._kept, None)

    def _claim(self, begin: int) -> None:
        """Each epoch keeps the tree of the commit before it, which it begins behind."""
        if self._unclaimed[:1] == [begin]:
            self._unclaimed.pop(0)
        else:
            self._report.add("checkpoint", "the epoch's checkpoint is missing", begin)

    def _remembered(self) -> Checkpoint | None:
        note = self._reading.expected.head_note
        if note is None:
            return None
        if not note:
            self._report.add("head", "the head file is missing")
            return None
        return self._opened("head", note)

    def _check(self, where: str, note: Any, size: Any) -> None:
        found = self._opened(where, note)
        if found is None:
            return
        if found.size != size:
            self._report.add(where, "size and checkpoint differ")
        self._compare(where, found)

    def _opened(self, where: str, note: Any) -> Checkpoint | None:
        try:
            expected = self._reading.expected
            return checkpoint.open_checkpoint(str(note), expected.verifier, *expected.others)
        except VerificationError as error:
            self._report.add(where, error.message)
            return None

    def _compare(self, where: str, found: Checkpoint) -> None:
        tree = self._reading.tree
        if found.size > tree.size:
            self._report.add(where, f"the log was longer once: {found.size} entries were signed")
        elif self._root(found.size) != found.root:
            self._report.add(where, f"the tree of size {found.size} had another root")

    def _root(self, size: int) -> bytes | None:
        try:
            return self._reading.tree.root(size)
        except LookupError:  # it lies behind what is read: only the stored nodes can tell
            pass
        try:
            return Tree.load(size, self._source).root(size)
        except LookupError:
            return None
