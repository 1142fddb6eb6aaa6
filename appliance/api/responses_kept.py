"""Responses that are kept for a key's next question: who may, what is told of it, and the way back.

Deny by default: only a key that was granted it (`appliance key create --store-responses`) has anything
kept, and what is kept opens with the token of the call only. Storing, reading and deleting are on the
record before they are done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request
from pydantic import TypeAdapter

from appliance.accounts.stored import Owner
from appliance.api.border import visit_of
from appliance.api.presented import token_of
from appliance.api.responses_items import Item, listed
from appliance.api.responses_schemas import Prompting, ResponseRequest
from appliance.api.responses_shapes import Response
from appliance.audit.entry import Entry, person_of, subject_of
from appliance.audit.kinds import Kind
from appliance.core import InferenceRequest, Receipt
from appliance.errors import Refused, RequestError
from appliance.exchange import Exchange
from appliance.services import services_of

_ITEMS: Final[TypeAdapter[list[Item]]] = TypeAdapter(list[Item])


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored response with the conversation that it answered."""

    record: int  # seq of its opening
    subjects: tuple[str, ...] = field(repr=False)  # whose words it holds
    items: list[dict[str, Any]] = field(repr=False)  # what it was asked, in OpenAI's shapes
    response: dict[str, Any] = field(repr=False)

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """What was asked, and what was answered."""
        return [*self.items, *self.response["output"]]

    def dumps(self) -> bytes:
        """As it is sealed."""
        said = {
            "record": self.record,
            "subjects": self.subjects,
            "items": self.items,
            "response": self.response,
        }
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8")

    @classmethod
    def loads(cls, data: bytes) -> Kept:
        """From what was sealed."""
        said: Mapping[str, Any] = json.loads(data)
        return cls(said["record"], tuple(said["subjects"]), said["items"], said["response"])


class Keeping:
    """What one call may have kept, read and deleted."""

    def __init__(self, request: Request) -> None:
        self._services = services_of(request.app)
        self._visit = visit_of(request.scope)
        self._principal = self._visit.known_principal
        self._owner = Owner(self._principal.key_id, token_of(request.headers))

    def require(self, param: str) -> None:
        """Refused where this key may have nothing kept, or was not sent: what is kept opens with it."""
        if not self._owner.token:
            raise Refused(
                "a certificate without its key has nothing stored",
                code="store_not_allowed",
                param=param,
                hint="send the key beside the certificate",
            )
        if not self._services.directory.may_store(self._principal.key_id):
            raise Refused(
                "this key may not have responses stored",
                code="store_not_allowed",
                param=param,
                hint="send the whole conversation as input; an administrator makes a key that may "
                "with: appliance key create --store-responses",
            )

    async def earlier(self, asked: Prompting) -> Kept | None:
        """The response that a question goes on from; its reading is on the record. RequestError where
        there is none of this key's.
        """
        if isinstance(asked, ResponseRequest) and asked.store:
            self.require("store")
        name = asked.previous_response_id
        if name is None:
            return None
        self.require("previous_response_id")
        found = await self._find(name)
        if found is None:
            raise RequestError(
                "no stored response of this key has this id",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        # Before the opening, which is the first entry of its request: this one does not name it.
        await self._record(Kind.RESPONSE_READ, {"target": found.record}, request_id=None)
        return found

    async def read(self, response_id: str) -> Kept:
        """A stored response, to be shown."""
        self.require("response_id")
        found = await self._find(response_id)
        if found is None:
            raise _not_found()
        read = {"target": found.record}
        self._visit.receipt = await self._record(Kind.RESPONSE_READ, read, request_id=self._visit.request_id)
        return found

    async def delete(self, response_id: str) -> None:
        """Remove a stored response."""
        self.require("response_id")
        found = await self._find(response_id)
        if found is None:
            raise _not_found()
        deleted = {"target": found.record}
        self._visit.receipt = await self._record(
            Kind.RESPONSE_DELETED, deleted, request_id=self._visit.request_id
        )
        await asyncio.to_thread(self._services.responses.delete, self._principal.key_id, response_id)

    async def keep(
        self, exchange: Exchange, asked: ResponseRequest, response: Response, earlier: Kept | None
    ) -> None:
        """Store an answer, where its caller wants that."""
        question = exchange.request
        if not asked.store or not isinstance(question, InferenceRequest):
            return
        if self._visit.is_replay and await self._find(response.id) is not None:
            return  # it was kept the first time
        before = earlier.conversation if earlier is not None else []
        subjects = {subject_of(self._principal, question.annotations)}
        subjects.update(earlier.subjects if earlier is not None else ())
        kept = Kept(
            record=exchange.opening,
            subjects=tuple(sorted(subjects)),
            items=[*before, *listed(asked.input, response.id)],
            response=response.model_dump(),
        )
        expires_us = self._services.responses.expires_us()
        stored = {"target": kept.record, "expires": expires_us}
        await self._record(Kind.RESPONSE_STORED, stored, request_id=question.request_id)
        await asyncio.to_thread(
            self._services.responses.put,
            self._owner,
            response.id,
            kept.dumps(),
            subjects=kept.subjects,
            expires_us=expires_us,
        )

    async def _find(self, response_id: str) -> Kept | None:
        data = await asyncio.to_thread(self._services.responses.get, self._owner, response_id)
        return Kept.loads(data) if data is not None else None

    async def _record(self, kind: Kind, public: Mapping[str, int], *, request_id: str | None) -> Receipt:
        caller = self._visit.caller
        return await self._services.audit.append(
            Entry(
                kind=kind,
                public=public,
                content={
                    "principal": person_of(self._principal),
                    "caller": caller.told(),
                },
                request_id=request_id,
                actor=self._principal.key_id,
                address=caller.address,
                subject=subject_of(self._principal, {}),
            )
        )


def items_of(kept: Kept | None) -> Sequence[Item]:
    """The conversation of a stored response, to go on from."""
    return _ITEMS.validate_python(kept.conversation) if kept is not None else ()


def _not_found() -> RequestError:
    return RequestError("no stored response of this key has this id", code="not_found")
