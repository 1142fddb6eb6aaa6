"""Homes with planted exchanges, and exports of them, made in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from appliance import config
from appliance.alone import Alone, open_log_alone
from appliance.audit import entry, files
from appliance.audit.checkpoint import Verifier
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.policy import Reading
from appliance.audit.recipients import Algorithms, Identity
from appliance.cli.init import Members, initialise
from appliance.config import Home
from appliance.core import Caller, Delta, Outcome, Principal, Role
from appliance.exporting import Exported
from appliance.why import Why
from tests.clocks import ManualClock

AUDITOR = Principal("acc_1", "alice", Role.AUDITOR)
CALLER = Caller("192.0.2.7", "a browser")
WHY = Why("a parliamentary question", "2026-17")
# Everything that could steer a terminal or a page: it must come out inert everywhere.
HOSTILE = "a\r\nb\x1b[31m\x00\u202ered\u2066 <b>{{ 7 }}</b> ${x} \\n"


@dataclass
class Place:
    """A home and who reads it."""

    home: Home
    readers: list[Identity]
    clock: ManualClock = field(default_factory=lambda: ManualClock(2_000_000_000_000_000))

    @property
    def log(self) -> Verifier:
        return files.read_verifier(self.home)

    def open(self) -> Any:
        """The log and its rooms, without a gateway."""
        return open_log_alone(self.home, config.load(self.home), self.clock)


def make_place(
    root: Path, *, crypto: Literal["standard", "fips"] = "standard", reading: Reading = Reading.ANY
) -> Place:
    """A home of two auditors, whose identities are not in it."""
    algorithms = Algorithms.P256 if crypto == "fips" else Algorithms.XWING
    readers = [Identity.generate(name, algorithms) for name in ("alice", "bob")]
    home = Home(root=root)
    recovery = Identity.generate("safe", algorithms).recipient
    members = Members([each.recipient for each in readers], [recovery], reading=reading)
    initialise(home, profile="dev", members=members, crypto=crypto)
    return Place(home, readers)


def exchange(
    alone: Alone, name: str, question: str, pieces: Sequence[str], user: str = "someone"
) -> list[int]:
    """One streamed exchange on the record; the places of its records."""
    principal, subject = Principal("key_1", "front desk", Role.KIOSK), f"user:key_1:{user}"
    opened = Entry(
        kind=Kind.REQUEST_OPENED,
        public={"endpoint": "/v1/chat/completions", "model": "m", "model_sha256": "0" * 64, "stream": 1},
        content={
            "messages": [{"role": "user", "content": question}],
            "sampling": {"temperature": "1.0", "stop": []},
            "annotations": {"user": user},
            "principal": entry.person_of(principal),
            "caller": {"address": CALLER.address, "user_agent": HOSTILE},
        },
        request_id=name,
        actor="key_1",
        user=user,
        subject=subject,
    )
    seqs = [alone.audit.append_sync(opened).seq]
    for index, text in enumerate(pieces):
        piece = entry.segment(name, seqs[0], index, Delta(text, 1), subject=subject)
        seqs.append(alone.audit.append_sync(piece).seq)
    ended = entry.closed(
        name, seqs[0], model="m", outcome=Outcome.STOP, num_segments=len(pieces), subject=subject
    )
    return [*seqs, alone.audit.append_sync(ended).seq]


async def sealed(place: Place, *, pieces: Sequence[str] = ("It is ", "blue.")) -> Exported:
    """A sealed case of one exchange."""
    with place.open() as alone:
        seqs = exchange(alone, "req_1", "what colour is the sky?", pieces)
        exported: Exported = await alone.exporting.export(AUDITOR, CALLER, WHY, seqs=seqs)
        return exported
