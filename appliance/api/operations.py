"""The table of operations: what the document says of each, with examples that the tests send."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from appliance.api import audit_answers
from appliance.api.chat_shapes import ChatCompletionChunk
from appliance.api.completions_schemas import Completion
from appliance.api.described import Events, Example, Operation
from appliance.api.messages_shapes import MessageEvent
from appliance.api.responses_events import ResponseEvent

_MODEL: Final = {"model": "default"}
_QUESTION: Final = [{"role": "user", "content": "echo: Tuesdays and Thursdays until 18:00."}]
_HOURS: Final[dict[str, Any]] = {
    "name": "hours",
    "description": "The opening hours of an office",
    "input_schema": {
        "type": "object",
        "properties": {"office": {"type": "string"}},
        "required": ["office"],
        "additionalProperties": False,
    },
}
_ROUND: Final[dict[str, Any]] = {
    "tools": [_HOURS],
    "messages": [
        {"role": "user", "content": "When is the tax office open?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "hours", "input": {"office": "tax"}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "until 18:00"}],
        },
    ],
}
_OPENING: Final = {
    "type": "function",
    "function": {
        "name": "opening_hours",
        "description": "When the office is open.",
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "string"}},
            "required": ["day"],
            "additionalProperties": False,
        },
    },
}
_TEXT: Final[dict[str, Any]] = {"text/plain": {"schema": {"type": "string"}}}
_WHY: Final = {"purpose": "yearly review", "case": "2026-17"}


def _header(name: str, text: str, example: str, *, required: bool) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": text,
        "schema": {"type": "string"},
        "example": example,
    }


def _in_query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


STORED: Final = (
    "resp_0123456789abcdef0123456789abcdef"  # a test puts the id of one that is stored in its place
)
_OF_STORED: Final = (
    "not_found",
    "store_not_allowed",
    "invalid_value",
    "unknown_parameter",
    "store_unavailable",
)

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/chat/completions"): Operation(
        description="The answer, whole or as a stream",
        codes=("unsupported_schema", "schema_too_complex"),
        events=Events((ChatCompletionChunk,)),
        examples={
            "question": Example("A question", {**_MODEL, "messages": _QUESTION, "max_tokens": 64}),
            "stream": Example(
                "The same as a stream, with usage at its end",
                {
                    **_MODEL,
                    "messages": _QUESTION,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                },
            ),
            "structured": Example(
                "An answer that keeps to a schema",
                {
                    **_MODEL,
                    "messages": [{"role": "user", "content": 'echo: {"open":true}'}],
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {
                            "name": "office",
                            "schema": {
                                "type": "object",
                                "properties": {"open": {"type": "boolean"}},
                                "required": ["open"],
                                "additionalProperties": False,
                            },
                        },
                    },
                },
            ),
            "several": Example(
                "Two answers, with the log-probabilities of their tokens",
                {**_MODEL, "messages": _QUESTION, "n": 2, "logprobs": True, "top_logprobs": 2},
            ),
            "tools": Example(
                "A tool's result, and the question again",
                {
                    **_MODEL,
                    "messages": [
                        {"role": "user", "content": "Is the office open on Tuesday?"},
                        {
                            "role": "assistant",
                            "content": None,
                            "tool_calls": [
                                {
                                    "id": "call_1",
                                    "type": "function",
                                    "function": {"name": "opening_hours", "arguments": '{"day":"Tuesday"}'},
                                }
                            ],
                        },
                        {"role": "tool", "tool_call_id": "call_1", "content": "until 18:00"},
                    ],
                    "tools": [_OPENING],
                },
            ),
            "unknown": Example(
                "A model that is not here",
                {"model": "another", "messages": _QUESTION},
                HTTPStatus.NOT_FOUND,
            ),
            "mistaken": Example(
                "A value that is not one",
                {**_MODEL, "messages": _QUESTION, "temperature": 7},
                HTTPStatus.BAD_REQUEST,
            ),
        },
    ),
    ("POST", "/v1/messages"): Operation(
        description="The answer, whole or as a stream of named events",
        codes=("unsupported_schema", "schema_too_complex"),
        events=Events((MessageEvent,), end="the last one is `message_stop`, or `error` where it fails."),
        examples={
            "question": Example(
                "A question", {**_MODEL, "max_tokens": 64, "system": "Be brief.", "messages": _QUESTION}
            ),
            "stream": Example(
                "The same as a stream", {**_MODEL, "max_tokens": 64, "messages": _QUESTION, "stream": True}
            ),
            "tools": Example("A tool that may be called", {**_MODEL, **_ROUND, "max_tokens": 64}),
            "unlimited": Example(
                "Without the limit that Anthropic's clients always name",
                {**_MODEL, "messages": _QUESTION},
                HTTPStatus.BAD_REQUEST,
            ),
        },
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        codes=("unsupported_schema",),
        examples={
            "question": Example("A question", {**_MODEL, "messages": _QUESTION}),
            "tools": Example("The same conversation, with its tools", {**_MODEL, **_ROUND}),
        },
    ),
    ("POST", "/v1/completions"): Operation(
        description="The answers, whole or as a stream",
        events=Events((Completion,)),
        examples={
            "text": Example("A text to go on from", {**_MODEL, "prompt": "echo: once upon a time"}),
            "stream": Example(
                "The same as a stream, behind its own prompt",
                {**_MODEL, "prompt": "echo: once upon a time", "echo": True, "stream": True},
            ),
            "several": Example(
                "Two prompts, with the log-probabilities of their answers' tokens",
                {**_MODEL, "prompt": ["echo: one", "echo: two"], "logprobs": 1, "max_tokens": 4},
            ),
            "tokens": Example("Token ids", {**_MODEL, "prompt": [72, 105, 33]}),
            "suffix": Example(
                "What is not implemented",
                {**_MODEL, "prompt": "once", "suffix": "the end"},
                HTTPStatus.BAD_REQUEST,
            ),
        },
    ),
    ("POST", "/v1/embeddings"): Operation(
        examples={
            "texts": Example("Two texts", {**_MODEL, "input": ["opening hours", "form 12"]}),
            "base64": Example(
                "As clients ask by themselves", {**_MODEL, "input": "form 12", "encoding_format": "base64"}
            ),
        },
    ),
    ("POST", "/v1/rerank"): Operation(
        examples={
            "documents": Example(
                "Which document answers best",
                {**_MODEL, "query": "opening hours", "documents": ["until 18:00", "form 12"], "top_n": 1},
            )
        },
    ),
    ("POST", "/tokenize"): Operation(
        examples={
            "content": Example("As to llama-server", {"content": "form 12"}),
            "prompt": Example("As to vLLM", {**_MODEL, "prompt": "form 12", "return_token_strs": True}),
        },
    ),
    ("POST", "/detokenize"): Operation(
        examples={"tokens": Example("Three tokens", {"tokens": [72, 105, 33]})}
    ),
    ("POST", "/v1/responses"): Operation(
        description="The answer, whole or as a stream",
        codes=(
            "unsupported_schema",
            "schema_too_complex",
            "store_not_allowed",
            "previous_response_not_found",
            "store_unavailable",
        ),
        events=Events(
            (ResponseEvent,),
            "the last one is `response.completed`, `response.incomplete` or `response.failed`. An error in "
            "the middle is an `error` event, and `response.failed` follows it.",
        ),
        examples={
            "text": Example(
                "A question as a text",
                {**_MODEL, "input": "echo: until 18:00", "instructions": "Answer briefly."},
            ),
            "stream": Example("Items as a stream", {**_MODEL, "input": _QUESTION, "stream": True}),
            "structured": Example(
                "An answer that keeps to a schema",
                {
                    **_MODEL,
                    "input": 'echo: {"open":true}',
                    "text": {
                        "format": {
                            "type": "json_schema",
                            "name": "office",
                            "schema": {
                                "type": "object",
                                "properties": {"open": {"type": "boolean"}},
                                "required": ["open"],
                                "additionalProperties": False,
                            },
                        }
                    },
                },
            ),
            "built_in": Example(
                "A tool that only a provider has",
                {**_MODEL, "input": "x", "tools": [{"type": "web_search"}]},
                HTTPStatus.BAD_REQUEST,
            ),
        },
    ),
    ("GET", "/v1/responses/{response_id}"): Operation(
        codes=_OF_STORED, path_examples={"response_id": STORED}
    ),
    ("DELETE", "/v1/responses/{response_id}"): Operation(
        codes=_OF_STORED, path_examples={"response_id": STORED}
    ),
    ("GET", "/v1/responses/{response_id}/input_items"): Operation(
        codes=_OF_STORED,
        path_examples={"response_id": STORED},
        parameters=(
            _in_query(
                "order", {"enum": ["asc", "desc"], "default": "desc"}, "The oldest first, or the newest"
            ),
            _in_query(
                "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "Of one page"
            ),
            _in_query("after", {"type": "string"}, "The last item of the page before"),
        ),
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        examples={"input": Example("A text", {**_MODEL, "input": "How many are these?"})},
    ),
    ("GET", "/v1/models/{name}"): Operation(
        codes=("model_not_allowed", "model_not_found"), path_examples={"name": "default"}
    ),
    ("GET", "/v1/audit/proof/{seq}"): Operation(
        name="prove_record",
        codes=("not_found",),
        path_examples={"seq": "1"},
        plain=_TEXT,
    ),
    ("POST", "/v1/audit/events"): Operation(
        name="search_audit_events",
        description="A page as JSON, or everything that was found as JSON lines or CSV",
        codes=("unsupported_parameter",),
        answer=audit_answers.AuditEvents,
        plain={"application/x-ndjson": _TEXT["text/plain"], "text/csv": _TEXT["text/plain"]},
        examples={
            "page": Example("The newest entries", {**_WHY, "limit": 5}),
            "lines": Example(
                "Refusals as JSON lines", {**_WHY, "kinds": ["request:refused"], "format": "jsonl"}
            ),
        },
    ),
    ("POST", "/v1/audit/events/timeline"): Operation(
        name="count_audit_events",
        answer=audit_answers.AuditTimeline,
        examples={"day": Example("In 24 parts", {**_WHY, "buckets": 24})},
    ),
    ("GET", "/v1/audit/events/{seq}"): Operation(
        name="read_audit_event",
        codes=("not_found",),
        answer=audit_answers.ProvenAuditEvent,
        path_examples={"seq": "1"},
        parameters=(
            _header("x-audit-purpose", "What the entry is read for.", _WHY["purpose"], required=True),
            _header("x-audit-case", "The case that it is read for.", _WHY["case"], required=False),
        ),
    ),
    ("GET", "/v1/audit/checkpoint"): Operation(name="read_checkpoint", plain=_TEXT),
    ("GET", "/v1/audit/status"): Operation(name="read_audit_status"),
    ("POST", "/v1/audit/export"): Operation(
        name="export_records",
        codes=("invalid_export", "not_found", "export_too_large"),
        plain={"application/zip": {"schema": {"type": "string", "contentEncoding": "binary"}}},
        examples={
            "records": Example("One record", {**_WHY, "seqs": [1]}),
            "range": Example("A range, with every header", {**_WHY, "range": [0, 2]}),
        },
    ),
    ("GET", "/healthz"): Operation(name="see_health"),
    ("GET", "/readyz"): Operation(name="see_readiness"),
    ("GET", "/metrics"): Operation(name="see_metrics", plain=_TEXT),
}
