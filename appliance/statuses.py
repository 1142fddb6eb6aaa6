"""HTTP statuses by an error's code, else by its branch of the tree: the only place with their numbers."""

from __future__ import annotations

from http import HTTPStatus

from appliance.errors import ApplianceError, Refused, RequestError, SetupError, Unavailable

_STATUS: dict[str, HTTPStatus] = {
    "invalid_api_key": HTTPStatus.UNAUTHORIZED,
    "invalid_login": HTTPStatus.UNAUTHORIZED,
    "account_locked": HTTPStatus.TOO_MANY_REQUESTS,
    "address_locked": HTTPStatus.TOO_MANY_REQUESTS,
    "read_limit": HTTPStatus.TOO_MANY_REQUESTS,
    "identity_locked": HTTPStatus.TOO_MANY_REQUESTS,
    "rate_limit_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "tokens_limit_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "concurrency_limit_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "queue_share_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "insufficient_quota": HTTPStatus.TOO_MANY_REQUESTS,
    "permission_denied": HTTPStatus.FORBIDDEN,
    "certificate_required": HTTPStatus.FORBIDDEN,
    "certificate_mismatch": HTTPStatus.FORBIDDEN,
    "certificate_refused": HTTPStatus.FORBIDDEN,
    "store_not_allowed": HTTPStatus.FORBIDDEN,
    "address_not_allowed": HTTPStatus.FORBIDDEN,
    "model_not_allowed": HTTPStatus.FORBIDDEN,
    "endpoint_not_allowed": HTTPStatus.FORBIDDEN,
    "not_reproducible": HTTPStatus.FORBIDDEN,
    "model_not_found": HTTPStatus.NOT_FOUND,
    "not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "body_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "header_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "headers_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "unsupported_encoding": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "uri_too_long": HTTPStatus.REQUEST_URI_TOO_LONG,
    "request_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "export_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "audit_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "disk_low": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "adapter_not_loaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "queue_timeout": HTTPStatus.SERVICE_UNAVAILABLE,
    "left_queue": HTTPStatus.SERVICE_UNAVAILABLE,
    "usage_unknown": HTTPStatus.SERVICE_UNAVAILABLE,
    "stopping": HTTPStatus.SERVICE_UNAVAILABLE,
    "stopped": HTTPStatus.SERVICE_UNAVAILABLE,
    "engine_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "out_of_memory": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections": HTTPStatus.SERVICE_UNAVAILABLE,
    "store_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "prompt_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "guardrails_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "unsupported_model": HTTPStatus.BAD_REQUEST,
    "schema_too_complex": HTTPStatus.BAD_REQUEST,
    # Neither is a gateway's 504: clients repeat those by themselves, and this one would end the same way.
    "timeout": HTTPStatus.REQUEST_TIMEOUT,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "idempotency_conflict": HTTPStatus.CONFLICT,
}


def status_of(error: ApplianceError) -> HTTPStatus:
    """The status by the error's code, else by its branch of the tree."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    match error:
        case RequestError():
            return HTTPStatus.BAD_REQUEST
        case Refused():
            return HTTPStatus.FORBIDDEN
        case Unavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case SetupError():
            return HTTPStatus.INTERNAL_SERVER_ERROR
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR
