"""Epochs and their wraps: each as its entry committed to it, under the key policy in force."""

from __future__ import annotations

import hashlib
from typing import Any

from appliance.audit.fsck.policies import KINDS
from appliance.audit.fsck.steps import MALFORMED, Block, Reading
from appliance.audit.fsck.trusted import headers_before
from appliance.audit.header import Header, decode_header
from appliance.audit.kinds import Kind


class Epochs:
    """Epochs follow each other without a gap, and so do the steps of the records sealed in one."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._source = reading.source
        self._report = reading.report
        self._policy: str | int | None = None  # in force at the moment
        self._epoch = 0
        self._step = 0  # of the next record that is sealed
        if reading.begin:
            self._go_on_from(reading.begin)

    def take(self, block: Block) -> None:
        """Openings of epochs, policies that come into force, and where each content was sealed."""
        for header in block.headers:
            if header.ct is not None:
                if header.epoch != self._epoch or header.step != self._step:
                    self._report.add(
                        "log_entry", "it is not sealed in the open epoch's next step", header.seq
                    )
                self._step += 1
            elif header.kind == Kind.EPOCH_OPENED:
                self._open(header)
            if header.kind in KINDS:
                self._policy = header.pub.get("policy_sha256")

    def finish(self) -> None:
        """Rows that no entry speaks of."""
        for (number,) in self._source.execute("SELECT id FROM epoch WHERE id < 1 OR id > ?", (self._epoch,)):
            self._report.add("epoch", f"epoch {number} has no entry")
        for (number,) in self._source.execute(
            "SELECT DISTINCT epoch FROM epoch_wrap WHERE epoch NOT IN (SELECT id FROM epoch)"
        ):
            self._report.add("epoch_wrap", f"epoch {number} has wraps and no row")

    def _open(self, header: Header) -> None:
        self._epoch, self._step = self._epoch + 1, 0
        try:
            said = header.pub
            number = said["epoch"]
            if number != self._epoch:
                self._report.add("log_entry", "epochs do not follow each other", header.seq)
            rows = self._source.execute(
                "SELECT first_seq, policy_sha256, secret_sha256 FROM epoch WHERE id = ?", (number,)
            )
            if list(rows) != [(header.seq, said["policy_sha256"], said["secret_sha256"])]:
                self._report.add("epoch", f"epoch {number} is not what its entry says", header.seq)
            if self._wraps_digest(number) != said["wraps_sha256"]:
                self._report.add("epoch_wrap", f"the wraps of epoch {number} differ", header.seq)
            if said["policy_sha256"] != self._policy:
                self._report.add("epoch", f"epoch {number} does not follow the policy in force", header.seq)
        except MALFORMED:
            self._report.add("log_entry", "the header lacks a field of its kind", header.seq)

    def _wraps_digest(self, number: Any) -> str:
        rows = self._source.execute(
            "SELECT recipient, suite, wrap FROM epoch_wrap WHERE epoch = ?", (number,)
        )
        digest = hashlib.sha256()
        for recipient, suite, wrap in sorted(rows, key=lambda each: (str(each[0]), str(each[1]))):
            digest.update(f"{recipient}\n{suite}\n{len(wrap)}\n".encode() + wrap)
        return digest.hexdigest()

    def _go_on_from(self, begin: int) -> None:
        """Where the part that was verified before left off: its last epoch and step, its policy."""
        for header in headers_before(self._reading, KINDS):
            self._policy = header.pub.get("policy_sha256")
        # Backwards to the newest sealed record: at most one epoch far.
        for (data,) in self._source.execute(
            "SELECT hdr FROM log_entry WHERE seq < ? ORDER BY seq DESC", (begin,)
        ):
            header = decode_header(data)
            if header.ct is not None and header.epoch is not None and header.step is not None:
                self._epoch, self._step = header.epoch, header.step + 1
                return
            if header.kind == Kind.EPOCH_OPENED:
                self._epoch = int(header.pub["epoch"])
                return
