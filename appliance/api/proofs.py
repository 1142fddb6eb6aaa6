"""`GET /v1/audit/proof/{seq}`: a caller's own record is in the log, as a file that others check offline.

Own is what this key's blind index says. Its key lives for a month; for older records the receipt says so
(`?leaf=`, the `x-audit-leaf` of the answer), which nobody else was given. Whose a record is, is known of
its opening; segments and closings point to it. Others' records and missing ones have the same answer.
"""

from __future__ import annotations

import asyncio
import hmac
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from appliance import db
from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.border import visit_of
from appliance.audit import blind, proving
from appliance.audit.entry import Entry, person_of
from appliance.audit.header import decode_header
from appliance.audit.kinds import Kind
from appliance.audit.merkle import leaf_hash
from appliance.audit.proof import Proof
from appliance.core import Principal
from appliance.errors import RequestError
from appliance.services import Services, services_of

MEDIA_TYPE = "text/plain; charset=utf-8"
_MAX_DIGITS = 16  # of a sequence number: below 2^53

router = APIRouter()


@router.get(
    "/v1/audit/proof/{seq}",
    dependencies=[require(Permission.GET_PROOFS)],
    response_class=Response,
    responses={
        HTTPStatus.OK: {"content": {"text/plain": {}}, "description": "C2SP tlog-proof@v1"},
        HTTPStatus.NOT_FOUND: {"description": "No such record, or another caller's"},
    },
)
async def proof(request: Request, seq: str, leaf: str = "") -> Response:
    """The proof, in a tree that a witness has cosigned where there is one. Its giving is on the record."""
    services, visit = services_of(request.app), visit_of(request.scope)
    principal = visit.known_principal
    found = await asyncio.to_thread(_own_proof, services, seq, leaf, principal)
    head = proving.head_of(found.note)
    await services.audit.append(
        Entry(
            kind=Kind.PROOF_GIVEN,
            public={"target": found.index, "tree_size": head.size},
            content={
                "principal": person_of(principal),
                "caller": {"address": visit.caller.address, "user_agent": visit.caller.user_agent},
            },
            request_id=visit.request_id,
            actor=principal.key_id,
            subject=f"key:{principal.key_id}",
        )
    )
    name = f'attachment; filename="record-{found.index}.tlog-proof"'
    return Response(found.encode(), media_type=MEDIA_TYPE, headers={"content-disposition": name})


def _own_proof(services: Services, seq: str, receipt: str, principal: Principal) -> Proof:
    if not (seq.isascii() and seq.isdecimal() and len(seq) <= _MAX_DIGITS):
        raise _not_found()
    with db.reading(db.of(services.home, services.settings)) as connection:
        data = proving.header_of(connection, int(seq))
        header = decode_header(data)
        if header.prev is not None:
            data = proving.header_of(connection, header.prev)
            header = decode_header(data)
        key = blind.existing_key(services.home, blind.month_of(header.ts))
        index = (header.bi or {}).get("key", "")
        is_own = key is not None and hmac.compare_digest(key.blind("key", principal.key_id).hex(), index)
        is_held = hmac.compare_digest(leaf_hash(data).hex().encode(), receipt.encode())
        if not (is_own or is_held):
            raise _not_found()
        return proving.prove(connection, int(seq))


def _not_found() -> RequestError:
    return RequestError("there is no such entry on the record", code="not_found")
