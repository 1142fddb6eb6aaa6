"""A home with a large record, and one exchange in its midst that somebody has to find."""

from __future__ import annotations

import hashlib
from pathlib import Path

from appliance import config, db
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer, Start
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import (
    Caller,
    ChatMessage,
    Delta,
    InferenceRequest,
    ModelSpec,
    Outcome,
    Principal,
    Role,
    SamplingParams,
    Timings,
    Usage,
)
from tests.bench import audit_log
from tests.homes import make_home

PERSON = "Maria Okafor 4711"
QUESTION = "May I appeal the decision of 3 May, and until when?"
ANSWER = ("Yes. An appeal is possible within one month ", "after the decision was delivered to you.")
REQUEST = "req_" + "5a" * 16


def make_seeded(root: Path, entries: int) -> Home:
    """About so many entries, half of them before the planted exchange and half behind it."""
    home = make_home(root)
    audit_log.fill(home, entries // 2)
    _plant(home)
    audit_log.fill(home, entries)
    return home


def _plant(home: Home) -> None:
    log = Sequencer(home, db.at(home.database), config.load(home).audit, SystemClock())
    log.open(Start(kind=Kind.LOG_STARTED, public={}))
    principal = Principal("k_lobby", "lobby", Role.KIOSK)
    model = ModelSpec(id="smollm2-135m-instruct", sha256="b1" * 32, size_bytes=1, path=Path("unused"))
    request = InferenceRequest(
        request_id=REQUEST,
        model=model.id,
        messages=(
            ChatMessage("system", "You answer questions of citizens, briefly."),
            ChatMessage("user", QUESTION),
        ),
        sampling=SamplingParams(temperature=0.2),
        stream=True,
        annotations={"user": PERSON},
    )
    opening = entry.opened(request, principal, Caller("10.1.2.3", "lobby screen"), model)
    (opened,) = log.commit([opening])
    subject = str(opening.subject)
    pieces = [
        entry.segment(REQUEST, opened.seq, index, Delta(text, 9), subject=subject)
        for index, text in enumerate(ANSWER)
    ]
    log.commit(pieces)
    ended = entry.closed(
        REQUEST,
        opened.seq,
        model=model.id,
        outcome=Outcome.STOP,
        usage=Usage(41, 18, 12),
        timings=Timings(1_800, 64_000, 412_000),
        num_segments=len(ANSWER),
        output_sha256=hashlib.sha256("".join(ANSWER).encode()).hexdigest(),
        subject=subject,
    )
    log.commit([ended])
    log.write_head()
    log.close()
