"""`POST /v1/rerank`, in the shape that Jina and Cohere share: which documents answer a query best."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.body import Body, ModelName, NonEmpty, answer, parse, perform, resolve, schema_of
from appliance.api.border import visit_of
from appliance.catalog import DEFAULT_ALIAS
from appliance.errors import InternalError
from appliance.tasks import Ranking, RankTask

MAX_DOCUMENTS = 1000

router = APIRouter()


class Document(Body):
    """A document as an object."""

    text: NonEmpty


class RerankRequest(Body):
    """What a caller may send."""

    model: ModelName | None = None
    query: NonEmpty
    documents: Annotated[list[NonEmpty | Document], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None

    def to_core(self, request_id: str, model: str) -> RankTask:
        texts = (each if isinstance(each, str) else each.text for each in self.documents)
        return RankTask(request_id=request_id, model=model, query=self.query, documents=tuple(texts))


class RerankResult(BaseModel):
    """One document's place in the request, and its score."""

    index: int
    relevance_score: float
    document: Document | None = None


class RerankUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """The best first. `method`: "rank" is the model's own head, "cosine" the angle of embeddings."""

    id: str
    object: Literal["list"] = "list"
    model: str
    method: Literal["rank", "cosine"]
    results: list[RerankResult]
    usage: RerankUsage


@router.post(
    "/v1/rerank",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(RerankRequest),
    response_model=RerankResponse,
)
async def create_rerank(request: Request) -> Response:
    """Scores for documents, the best first; of equal ones the earlier first."""
    asked = await parse(request, RerankRequest)
    visit = visit_of(request.scope)
    task = asked.to_core(visit.request_id, resolve(request, asked.model or DEFAULT_ALIAS))
    done = await perform(request, task)
    if not isinstance(done.result, Ranking):
        raise InternalError("a ranking has another result")
    scores = done.result.scores
    order = sorted(range(len(scores)), key=lambda at: -scores[at])[: asked.top_n]
    documents = [Document(text=each) for each in task.documents] if asked.return_documents else None
    return answer(
        RerankResponse(
            id=f"rerank-{visit.answer_id.removeprefix('req_')}",
            model=task.model,
            method=done.result.method,
            results=[
                RerankResult(
                    index=at, relevance_score=scores[at], document=documents[at] if documents else None
                )
                for at in order
            ],
            usage=RerankUsage(prompt_tokens=done.usage.prompt_tokens, total_tokens=done.usage.prompt_tokens),
        ),
        exclude_none=True,
    )
