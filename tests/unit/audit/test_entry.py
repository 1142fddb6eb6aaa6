"""Headers: one canonical form, and nothing in plaintext that names or quotes anybody."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.header import Header, SealedHash, decode_header
from appliance.audit.kinds import PUBLIC_FIELDS, Kind
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
)
from appliance.errors import InternalError, VerificationError

HEADER = Header(
    log="test/audit/1",
    seq=3,
    ts=1_790_000_000_000_000,
    boot="00" * 8,
    mono=5,
    kind=Kind.REQUEST_OPENED,
    pub={"model": "m", "model_sha256": "0" * 64, "stream": 0},
    v=1,
    req="req_1",
    bi={"key": "ab" * 16},
    epoch=1,
    step=0,
    subj="cd" * 16,
    ct=SealedHash(alg="A256GCM", kc="00" * 32, len=64, sha256="11" * 32),
)
CANARY = "canary-4711"


def test_header_bytes_are_pinned() -> None:
    """Golden bytes: a change of the form is a change of format version, and needs a migration."""
    expected = (
        b'{"bi":{"key":"' + b"ab" * 16 + b'"},"boot":"0000000000000000","ct":{"alg":"A256GCM","kc":"'
        + b"00" * 32 + b'","len":64,"sha256":"' + b"11" * 32 + b'"},"epoch":1,"kind":"request:opened",'
        b'"log":"test/audit/1","mono":5,"pub":{"model":"m","model_sha256":"' + b"0" * 64
        + b'","stream":0},"req":"req_1","seq":3,"step":0,"subj":"' + b"cd" * 16 + b'",'
        b'"ts":1790000000000000,"v":1}'
    )  # fmt: skip

    assert HEADER.encode() == expected
    assert decode_header(expected) == HEADER


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"seq":3', b'"seq": 3'),
        lambda data: data.replace(b'"seq":3', b'"seq":3.0'),
        lambda data: data.replace(b'"v":1', b'"v":1,"w":1'),
        lambda data: data.replace(b"request:opened", b"request:dreamed"),
        lambda data: data.replace(b'"stream":0', b'"prompt":0'),
        lambda data: data.replace(b'"req":"req_1"', b'"req":"\\u0072eq_1"'),
        lambda data: data[:-1],
        lambda _data: b"[]",
        lambda _data: b"\xff",
        lambda _data: b"[" * 100_000,
    ],
)
def test_other_forms_are_refused(change: object) -> None:
    """Another spelling, an unknown kind, an unknown field: VerificationError, nothing else."""
    assert callable(change)
    with pytest.raises(VerificationError):
        decode_header(change(HEADER.encode()))


def test_plaintext_fields_are_a_closed_list() -> None:
    """An entry can not say anything in plaintext that its kind does not allow."""
    with pytest.raises(InternalError):
        Entry(kind=Kind.REQUEST_OPENED, public={"prompt": "hello"})
    assert set(PUBLIC_FIELDS) == set(Kind)


def test_a_request_says_nothing_personal_in_plaintext() -> None:
    """Prompt, caller, user names and the key's id are in the sealed part only."""
    request = InferenceRequest(
        request_id="req_1",
        model="m",
        messages=(ChatMessage("user", CANARY),),
        sampling=SamplingParams(stop=(CANARY,)),
        annotations={"user": CANARY},
    )
    principal = Principal(key_id=CANARY, name=CANARY, role=Role.KIOSK)
    caller = Caller(address=CANARY, user_agent=CANARY)
    model = ModelSpec(id="m", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))
    entries = [
        entry.opened(request, principal, caller, model),
        entry.segment("req_1", 0, 0, Delta(CANARY, 1), subject="key:k"),
        entry.closed("req_1", 0, model="m", outcome=Outcome.STOP, rest=[Delta(CANARY, 0)]),
        entry.refused(
            request_id="req_1", principal=principal, caller=caller, route="/v1", code="x", status=400
        ),
    ]

    for each in entries:
        assert CANARY not in json.dumps(dict(each.public))
        assert CANARY not in repr(each)
        assert CANARY in json.dumps(dict(each.content or {}))


def test_header_that_can_not_be_a_leaf_is_refused() -> None:
    """A tile entry's length has 16 bits; integers end where JSON's do."""
    with pytest.raises(InternalError):
        msgspec.structs.replace(HEADER, req="x" * 70_000).encode()


def test_row_digest_is_pinned() -> None:
    """State rows are committed to in one form: bytes as hex, null as null."""
    row = {"id": "a", "secret_sha256": b"\x01\x02", "revoked_us": None, "created_us": 5}

    assert entry.row_digest(row) == entry.row_digest(dict(reversed(row.items())))
    assert entry.row_digest(row) != entry.row_digest(row | {"created_us": 6})
