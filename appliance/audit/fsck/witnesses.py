"""What witnesses said was said by them, and of this very tree."""

from __future__ import annotations

from typing import Any

from appliance.audit import checkpoint, cosignature
from appliance.audit.checkpoint import Verifier
from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.tree import Tree
from appliance.errors import VerificationError


class Witnesses:
    """At the end, from the stored edge of each size: `node` was held against the leaves by then.

    That rows were not changed or dropped is told by `State`; this is about what they say.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._report = reading.report

    def take(self, block: Block) -> None:
        """Nothing: the rows are few, and read at the end."""

    def finish(self) -> None:
        """Every pinned key, and every cosignature under it."""
        source = self._reading.source
        keys = self._keys(source.execute("SELECT id, vkey FROM witness"))
        rows = list(source.execute("SELECT id, size, witness, time_s, note, line FROM cosignature"))
        for row in rows:
            try:
                self._check(row, keys)
            except VerificationError as error:
                self._report.add("cosignature", f"a cosignature does not stand: {error.message}")

    def _keys(self, rows: Any) -> dict[Any, Verifier]:
        keys = {}
        for row_id, vkey in rows:
            try:
                found = Verifier.parse(str(vkey))
            except VerificationError as error:
                self._report.add("witness", f"a witness's key does not stand: {error.message}")
                continue
            if row_id != f"{found.name}+{found.key_id.hex()}":
                self._report.add("witness", "a witness's key has another name than its row")
            keys[row_id] = found
        return keys

    def _check(self, row: tuple[Any, ...], keys: dict[Any, Verifier]) -> None:
        row_id, size, witness, time_s, note, line = row
        if witness not in keys:
            raise VerificationError("its witness is not pinned")
        # What is kept beside a cosignature carries the log's first signature only, in every profile.
        head = checkpoint.open_checkpoint(str(note), self._reading.expected.verifier)
        said = cosignature.verify(head.text(), checkpoint.read_signature(str(line)), keys[witness])
        if (head.size, said.time, f"{size} {witness}") != (size, time_s, row_id):
            raise VerificationError("it is not what its row says")
        if head.size > self._reading.tree.size:
            self._report.add("cosignature", f"the log was longer once: a witness saw {head.size} entries")
        elif self._root(head.size) != head.root:
            self._report.add("cosignature", f"a witness saw another tree of {head.size} entries")

    def _root(self, size: int) -> bytes | None:
        try:
            return Tree.load(size, self._reading.source).root(size)
        except LookupError:
            return None
