"""`GET /openapi.json`: the document of this API, made from the routes themselves (OpenAPI 3.1).

FastAPI tells of paths, parameters and answers; what it can not know is added here: the bodies that our
routes read by themselves, the roles behind a permission, every status with its codes, streams, headers
and examples. `deploy/openapi.json` is the copy that a review sees change; a test holds them equal.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from appliance.accounts.roles import Permission, allows
from appliance.api import described
from appliance.api.access import require
from appliance.api.operations import OPERATIONS
from appliance.core import Role

PATH = "/openapi.json"
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, as OpenAI's clients send it."},
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same key, as Anthropic's clients send it.",
    },
}
_REF = "#/components/schemas/"
_DEFS = "#/$defs/"

router = APIRouter()


@router.get(PATH, dependencies=[require(Permission.SEE_READINESS)], response_model=dict[str, Any])
async def openapi_document(request: Request) -> Response:
    """This document. Every role may read it: it tells what can be asked, and nothing about this box."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = text_of(document(request.app)).encode()
    return Response(state.openapi, media_type="application/json")


def text_of(found: dict[str, Any]) -> str:
    """The document as it is kept: a change of it is a change of few lines."""
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document of an application's routes."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary=app.description,
        description=described.PREFACE,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in described.TAGS.items()],
    )
    components = made.setdefault("components", {})
    schemas = _Schemas(components.setdefault("schemas", {}))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.kept.pop(name, None)
    schemas.add(described.ERROR)
    schemas.add(described.MESSAGES_ERROR)
    for route in routes_of(app):
        for method in sorted(route.methods or ()):
            operation = made["paths"][route.path_format][method.lower()]
            made["paths"][route.path_format][method.lower()] = _mended(route, method, operation, schemas)
    components["schemas"] = dict(sorted(schemas.kept.items()))
    components["securitySchemes"] = _SCHEMES
    components["headers"] = described.HEADERS
    made["security"] = _SECURITY
    _without_titles(components["schemas"])
    return made


def routes_of(app: FastAPI) -> list[APIRoute]:
    """The routes that are in the document."""
    return [each for each in _walk(app.routes) if each.include_in_schema]


def permission_of(route: APIRoute) -> Permission | None:
    """What a route asks for; None for the one open path."""
    found = (getattr(each.dependency, "permission", None) for each in route.dependencies)
    return next((each for each in found if each is not None), None)


def roles_of(permission: Permission) -> list[str]:
    """Who has it."""
    return [str(role) for role in Role if allows(role, permission)]


def _walk(routes: Any) -> Iterator[APIRoute]:
    for each in routes:
        if isinstance(each, APIRoute):
            yield each
        elif hasattr(each, "original_router"):  # FastAPI keeps routers whole
            yield from _walk(each.original_router.routes)


class _Schemas:
    """The document's schemas by name. A name that several shapes want goes to the first of them."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self.kept = kept

    def add(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema with definitions of its own, as pydantic makes them → a reference to where it lies now."""
        schema = json.loads(json.dumps(schema))
        defs = schema.pop("$defs", {})
        wanted = {**defs, **({schema["title"]: schema} if "title" in schema else {})}
        names = {each: self._name(each, wanted) for each in wanted}
        for name, each in wanted.items():
            _point(each, names)
            self.kept[names[name]] = each
        if "title" in schema:
            return {"$ref": _REF + names[schema["title"]]}
        _point(schema, names)
        return schema

    def _name(self, name: str, wanted: dict[str, Any]) -> str:
        same = json.loads(json.dumps(wanted[name]))
        _point(same, {each: each for each in wanted})
        names = itertools.chain((name, f"{name}Input"), (f"{name}{number}" for number in itertools.count(2)))
        return next(each for each in names if self.kept.get(each, same) == same)


def _point(schema: Any, names: dict[str, str]) -> None:
    """References into `$defs` become references into the document's components."""
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref.startswith(_DEFS):
            schema["$ref"] = _REF + names[ref.removeprefix(_DEFS)]
        mapping = schema.get("mapping")
        if isinstance(mapping, dict):
            for key, value in mapping.items():
                if isinstance(value, str) and value.startswith(_DEFS):
                    mapping[key] = _REF + names[value.removeprefix(_DEFS)]
        for each in schema.values():
            _point(each, names)
    elif isinstance(schema, list):
        for each in schema:
            _point(each, names)


def _without_titles(schema: Any) -> None:
    """A title that repeats its property's name says nothing; a property of that name stays."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for name, each in schema.items():
            if name not in {"default", "const", "enum", "examples"}:
                _without_titles(each)
    elif isinstance(schema, list):
        for each in schema:
            _without_titles(each)


def _mended(route: APIRoute, method: str, operation: dict[str, Any], schemas: _Schemas) -> dict[str, Any]:
    """One operation, complete."""
    permission = permission_of(route)
    told = OPERATIONS.get((method, route.path_format), described.Operation())
    first, _, rest = (route.description or route.name).partition("\n")
    mended: dict[str, Any] = {
        "operationId": told.name or route.name,
        "tags": [described.tag_of(route.path_format)],
        "summary": first.strip(),
        "description": _description(first, rest, permission),
        "security": _SECURITY if permission else [],
    }
    if permission:
        mended["x-permission"] = str(permission)
        mended["x-roles"] = roles_of(permission)
    parameters = [*(_parameter(each, told) for each in operation.get("parameters", ())), *told.parameters]
    if permission is Permission.INFER and "requestBody" in operation:
        parameters.append(described.IDEMPOTENCY_KEY)
    if parameters:
        mended["parameters"] = parameters
    if "requestBody" in operation:
        mended["requestBody"] = _body(operation["requestBody"], told, schemas)
    mended["responses"] = _responses(route, operation, told, permission, schemas)
    return mended


def _description(first: str, rest: str, permission: Permission | None) -> str:
    who = f"Roles: {', '.join(roles_of(permission))}." if permission else "Open to everybody, without a key."
    lines = " ".join(each.strip() for each in rest.strip().splitlines())
    return "\n\n".join(each for each in (first.strip(), lines, who) if each)


def _parameter(parameter: dict[str, Any], told: described.Operation) -> dict[str, Any]:
    schema = {name: each for name, each in parameter["schema"].items() if name != "title"}
    example = told.path_examples.get(parameter["name"])
    return {**parameter, "schema": schema, **({} if example is None else {"example": example})}


def _body(body: dict[str, Any], told: described.Operation, schemas: _Schemas) -> dict[str, Any]:
    content = {}
    for media_type, each in body["content"].items():
        examples = {name: example.told() for name, example in told.examples.items()}
        content[media_type] = {"schema": schemas.add(each["schema"]), "examples": examples}
    return {"required": True, "content": content}


def _event(events: described.Events, schemas: _Schemas) -> dict[str, Any]:
    """One event of a stream. Its data is text; what stands in it is described in OpenAPI 3.2's way."""
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": schemas.add(events.schema()),
    }
    if events.is_done:
        data = {"anyOf": [data, {"const": "[DONE]"}]}
    return {
        "type": "object",
        "description": f"One server-sent event; {events.end}",
        "required": ["data"],
        "properties": {
            "event": {"type": "string"},
            "data": data,
        },
    }


def _responses(
    route: APIRoute,
    operation: dict[str, Any],
    told: described.Operation,
    permission: Permission | None,
    schemas: _Schemas,
) -> dict[str, Any]:
    given = {int(status): each for status, each in operation["responses"].items()}
    given.pop(HTTPStatus.UNPROCESSABLE_ENTITY, None)  # FastAPI's own; ours is 400 and has another shape
    answer = given[HTTPStatus.OK]
    if told.description:
        answer["description"] = told.description
    if told.plain is not None:
        answer["content"] = told.plain
    if told.answer is not None:
        answer.setdefault("content", {})["application/json"] = {
            "schema": schemas.add(told.answer.model_json_schema(mode="serialization"))
        }
    if told.events is not None:
        answer["content"]["text/event-stream"] = {"schema": _event(told.events, schemas)}
    is_asking = permission is Permission.INFER
    answer["headers"] = described.headers_for(HTTPStatus.OK, is_asking=is_asking)
    for status, codes in described.codes_of(told, permission, has_body="requestBody" in operation).items():
        shape = described.MESSAGES_ERROR if route.path_format.startswith("/v1/messages") else described.ERROR
        problem: dict[str, Any] = schemas.add(shape)
        other = given.get(status, {}).get("content", {}).get("application/json", {}).get("schema")
        given[status] = {
            "description": f"{status.phrase}: " + ", ".join(f"`{each}`" for each in codes),
            "headers": described.headers_for(status, is_asking=is_asking),
            "content": {"application/json": {"schema": {"anyOf": [other, problem]} if other else problem}},
        }
    return {str(int(status)): given[status] for status in sorted(given)}
