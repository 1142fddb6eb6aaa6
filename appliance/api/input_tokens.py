"""`POST /v1/responses/input_tokens`: what an input will cost, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.body import (
    ModelName,
    answer,
    parse,
    perform,
    refuse_unless_off,
    resolve,
    schema_of,
)
from appliance.api.border import visit_of
from appliance.api.responses_items import Item
from appliance.api.responses_kept import Keeping, items_of
from appliance.api.responses_schemas import Prompting
from appliance.catalog import DEFAULT_ALIAS
from appliance.errors import InternalError
from appliance.tasks import CountTask, TokenCount

# Each with the values that mean "off"; anything else would change the count.
OFF_VALUES: Mapping[str, tuple[object, ...]] = {
    "conversation": (),
    "personality": (),
    "truncation": ("disabled",),
}

router = APIRouter()


class InputTokensRequest(Prompting):
    """What a caller may send: the part of a request for a response that its prompt is made of."""

    model: ModelName | None = None
    personality: Any = None

    def to_core(self, request_id: str, model: str, earlier: Sequence[Item] = ()) -> CountTask:
        self.answer_schema()
        return CountTask(
            request_id=request_id,
            model=model,
            messages=self.messages(earlier),
            tooling=self.tooling(),
            effort=self.effort(),
        )


class InputTokens(BaseModel):
    """The tokens of the conversation in the model's chat template, up to where its answer begins."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


@router.post(
    "/v1/responses/input_tokens",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(InputTokensRequest),
    response_model=InputTokens,
)
async def count_input_tokens(request: Request) -> Response:
    """Count without computing."""
    asked = await parse(request, InputTokensRequest)
    refuse_unless_off(asked, OFF_VALUES)
    asked.refuse_what_is_not_here()
    earlier = items_of(await Keeping(request).earlier(asked))
    model = resolve(request, asked.model or DEFAULT_ALIAS)
    done = await perform(request, asked.to_core(visit_of(request.scope).request_id, model, earlier))
    if not isinstance(done.result, TokenCount):
        raise InternalError("a count has another result")
    return answer(InputTokens(input_tokens=done.result.num_tokens))
