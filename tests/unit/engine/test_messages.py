"""The border to the worker: what it says goes onto the record, so its words are bounded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.engine.messages import Failed, Finished, Rejected, Started, ToGateway

FINISHED: dict[str, Any] = {
    "request_id": "r", "reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0,
    "queue_us": 0, "prefill_us": 0, "decode_us": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        Finished(**(FINISHED | {"prompt_tokens": 1 << 60})),
        Finished(**(FINISHED | {"decode_us": -1})),
        Started("r", 1 << 60),
        Rejected("r", "what the caller asked, in plaintext", "no"),
        Failed("r", "x" * 65, "no"),
    ],
)
def test_worker_can_not_say_what_no_header_takes(message: ToGateway) -> None:
    """Counts that canonical JSON refuses, and codes that could carry content, do not decode."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ToGateway)


def test_what_workers_say_decodes() -> None:
    """The control."""
    for message in (Finished(**FINISHED), Started("r", 3), Rejected("r", "template_error", "no")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ToGateway) == message
