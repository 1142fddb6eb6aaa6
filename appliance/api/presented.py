"""What a request shows before its body is read: its address, its key, and what it says its body is."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Scope

from appliance.errors import Refused, RequestError

_KEY: Final = re.compile(rb"apk_[a-z2-7]{4}")  # the beginning of one is enough to know what it is
_WHOLE_KEY: Final = re.compile(rb"apk_[a-z2-7]{10}_[a-z2-7]{52}")
_NAMES: Final = re.compile(
    rb"(?:^|[&;])(?:x[-_])?(?:api[-_]?key|key|token|access[-_]token|authorization)(?:=|[&;]|$)", re.IGNORECASE
)
_ESCAPED: Final = re.compile(rb"[0-9A-Fa-f]{2}")
# What nobody needs to escape, and what must never be in a path: an escape of these hides another path.
_HIDDEN: Final = re.compile(rb"[A-Za-z0-9._~%/\\\x00-\x1f\x7f-\xff-]")
_NAMES_WITH_SLASHES: Final = b"/v1/models/"  # whose clients escape them
_TRICKS: Final = re.compile(rb"//|;|/\.{1,2}(?:/|$)")
_JSON: Final = re.compile(r"application/json\s*(?:;\s*charset=\"?utf-?8\"?\s*)?", re.IGNORECASE)


def token_of(headers: Headers) -> str:
    """The key that was presented, believed or not; empty where there is none.

    RequestError where two headers present two keys: which of them counts would be a matter of order.
    """
    authorization = headers.get("authorization", "")
    other = headers.get("x-api-key", "")
    if not authorization:
        return other
    scheme, _, credentials = authorization.partition(" ")
    token = credentials.strip() if scheme.lower() == "bearer" else ""
    if other and other != token:
        raise RequestError(
            "two different keys were sent",
            code="two_keys",
            hint="send one: 'authorization: Bearer apk_…' or 'x-api-key: apk_…'",
        )
    return token


def key_shown_in(scope: Scope) -> str | None:
    """The key that the address holds; empty where only a part or a name of one; None: nothing of the kind."""
    query = _decoded(scope.get("query_string", b""))
    address = _decoded(scope.get("raw_path") or b"") + b"?" + query
    if _KEY.search(address) is None and _NAMES.search(query) is None:
        return None
    whole = _WHOLE_KEY.search(address)
    return whole[0].decode("ascii") if whole else ""


def key_in_url() -> RequestError:
    """The refusal of such an address; it never says what stood there."""
    return RequestError(
        "a key does not belong into an address",
        code="key_in_url",
        hint="addresses stand in the logs of proxies and programs: revoke this key "
        "(appliance key revoke), and send the new one as 'authorization: Bearer apk_…'",
    )


def is_plain(scope: Scope) -> bool:
    """Whether the path is written in the one way that a path of ours is written."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    if _TRICKS.search(raw) or _TRICKS.search(unquote_to_bytes(raw)):
        return False
    escapes = [each[:2] for each in raw.split(b"%")[1:]]
    if not all(map(_ESCAPED.fullmatch, escapes)):
        return False
    signs = [bytes([int(each, 16)]) for each in escapes]
    meant = b"/" if raw.startswith(_NAMES_WITH_SLASHES) else b""
    return not any(_HIDDEN.fullmatch(each) for each in signs if each != meant)


def check_content(headers: Headers) -> None:
    """RequestError where the body is announced as something that is not read here."""
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise RequestError(
            "a compressed body is not read", code="unsupported_encoding", hint="send it as it is"
        )
    kind = headers.get("content-type")
    if kind is not None and not _JSON.fullmatch(kind.strip()):
        raise RequestError(
            "the body is not announced as JSON",
            code="unsupported_media_type",
            hint="send 'content-type: application/json'",
        )


def no_key() -> Refused:
    """The refusal of a request without a key."""
    return Refused("no API key was sent", code="invalid_api_key", hint="send 'authorization: Bearer apk_…'")


def _decoded(raw: bytes) -> bytes:
    """Twice: what is escaped twice is a key all the same, and stands in somebody's log."""
    return unquote_to_bytes(unquote_to_bytes(raw.replace(b"+", b" ")))
