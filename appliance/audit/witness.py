"""C2SP tlog-witness as files: what a log asks of a witness, and when the witness agrees. Pure.

A request is the body of `add-checkpoint`: `old N`, a consistency proof, an empty line, the checkpoint. A
witness remembers the newest checkpoint that it cosigned of each log, and cosigns nothing that does not go
on from there. What it refuses carries the status of the protocol, so that the same rules serve HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from appliance.audit import checkpoint, merkle, proof
from appliance.audit.checkpoint import Checkpoint, Verifier
from appliance.errors import VerificationError

_OLD = "old "


class Status(IntEnum):
    """C2SP tlog-witness, add-checkpoint: why a witness does not cosign."""

    BAD_REQUEST = 400
    FORBIDDEN = 403
    NOT_FOUND = 404
    CONFLICT = 409
    UNPROCESSABLE = 422


_CODES = {
    Status.BAD_REQUEST: "witness_bad_request",
    Status.FORBIDDEN: "witness_bad_signature",
    Status.NOT_FOUND: "witness_unknown_log",
    Status.CONFLICT: "witness_conflict",
    Status.UNPROCESSABLE: "witness_inconsistent",
}


class NotCosigned(VerificationError):
    """A witness's refusal. `size` is the newest tree that it cosigned, 0 for none."""

    def __init__(self, status: Status, message: str, *, size: int = 0, hint: str = "") -> None:
        super().__init__(f"{status:d}: {message}", code=_CODES[status], hint=hint)
        self.status = status
        self.size = size


@dataclass(frozen=True, slots=True)
class Request:
    """One add-checkpoint request."""

    old: int
    hashes: tuple[bytes, ...]
    note: str

    def encode(self) -> str:
        """The body."""
        lines = [f"{_OLD}{self.old}", *map(checkpoint.encode, self.hashes)]
        return "\n".join(lines) + "\n\n" + self.note


def parse(data: bytes) -> Request:
    """A request from its body. VerificationError unless it is in its one form; believes nothing yet."""
    if len(data) > checkpoint.MAX_NOTE_BYTES:
        raise VerificationError("the request is too large")
    try:
        head, separator, note = data.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        raise VerificationError("the request is not UTF-8") from error
    lines = head.split("\n")
    if not separator or not lines[0].startswith(_OLD):
        raise VerificationError("this is not a request to a witness")
    old = checkpoint.number(lines.pop(0).removeprefix(_OLD))
    checkpoint.parse(checkpoint.read_note(note).text)
    return Request(old=old, hashes=proof.hashes_of(lines), note=note)


def check(request: Request, log: Verifier, newest: Checkpoint | None) -> Checkpoint:
    """The checkpoint to cosign, which goes on from the newest one that was cosigned. Else NotCosigned.

    In the order of the protocol. The caller compares and stores in one transaction.
    """
    try:
        head = checkpoint.open_checkpoint(request.note, log)
    except VerificationError as error:
        raise NotCosigned(Status.FORBIDDEN, error.message) from error
    known = newest or Checkpoint(log.name, 0, merkle.EMPTY_ROOT)
    if request.old > head.size:
        raise NotCosigned(Status.BAD_REQUEST, "the old size is larger than the checkpoint", size=known.size)
    if request.old != known.size:
        raise NotCosigned(
            Status.CONFLICT,
            f"this witness last cosigned a tree of {known.size}, not of {request.old}",
            size=known.size,
            hint=f"on the appliance: appliance audit witness export --old {known.size}",
        )
    if head.size == 0 and head.root != merkle.EMPTY_ROOT:
        raise NotCosigned(Status.UNPROCESSABLE, "an empty tree has another root", size=known.size)
    if not merkle.verify_consistency(known.size, head.size, known.root, head.root, request.hashes):
        raise NotCosigned(
            Status.UNPROCESSABLE,
            f"this tree does not go on from the one of {known.size} that was cosigned",
            size=known.size,
            hint="the log was cut back, forked, or restored: keep both checkpoints, ask its operator",
        )
    return head


def is_equivocation(one: Checkpoint, other: Checkpoint) -> bool:
    """Two signed roots of one size: the log said two things, and the two notes prove it to anybody."""
    return one.origin == other.origin and one.size == other.size and one.root != other.root
