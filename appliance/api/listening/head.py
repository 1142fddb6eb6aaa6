"""The head of a request, as bytes: either it can be read in one way only, or it is refused. Pure.

RFC 9112 and 9110, without what was ever allowed for old peers' sake: two readers of one connection, such as a
proxy and this gateway, must never see two different requests in it ("request smuggling").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from appliance.errors import RequestError

END: Final = b"\r\n\r\n"
MAX_LINE: Final = 8192  # bytes of a request line
MAX_FIELDS: Final = 100  # header lines of one request
_MAX_DIGITS: Final = 15  # of a content-length: more would be no length of anything

_LINE: Final = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.([01])")
_TARGET: Final = re.compile(rb"/[^#\\]*")  # RFC 9112 §3.2.1: a path of ours; a fragment stays at the client
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
# Any of these decides where a request ends, or who answers it: each is there once, or not at all.
_ONCE: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"x-api-key"}
)
_UPGRADE: Final = frozenset({b"upgrade", b"http2-settings"})


@dataclass(frozen=True, slots=True)
class Head:
    """What was read: the bytes for the parser, and how the body behind them is delimited."""

    raw: bytes
    is_chunked: bool
    length: int  # of the body, in bytes; 0 where it comes in chunks


def check_start(ahead: bytes | bytearray) -> None:
    """Refuse at once what can not become a head, however it goes on. RequestError."""
    end = ahead.find(b"\r\n", 0, MAX_LINE + 2)
    if end >= 0:
        _read_line(bytes(ahead[:end]))
    elif len(ahead) > MAX_LINE:
        raise _too_long()
    elif b"\n" in ahead:
        raise malformed("its lines do not end with CR LF")
    elif not 0x41 <= ahead[0] <= 0x5A:
        raise malformed("it does not begin with a method")


def read(raw: bytes) -> Head:
    """`raw` up to and with the empty line. RequestError says what is wrong, and repeats none of it."""
    line, *fields = raw[: -len(END)].split(b"\r\n")
    version = _read_line(line)
    if len(fields) > MAX_FIELDS:
        raise RequestError(f"there are more than {MAX_FIELDS} header lines", code="headers_too_large")
    kept: list[bytes] = []
    found: dict[bytes, bytes] = {}
    for field in fields:
        name, value = _read_field(field)
        if name in _ONCE and name in found:
            raise malformed("a header that counts once is there twice")
        found[name] = found[name] + b"," + value if name in found else value
        if name not in _UPGRADE:
            kept.append(field)
    _check_host(found, version)
    _check_upgrade(found)
    is_chunked, length = _framing(found, version)
    return Head(raw=b"\r\n".join([line, *kept]) + END, is_chunked=is_chunked, length=length)


def malformed(why: str) -> RequestError:
    """A refusal of what is no HTTP/1.1 of the strict kind; `why` is ours, never the caller's."""
    return RequestError(f"this is not a valid HTTP/1.1 request: {why}", code="malformed_request")


def _too_long() -> RequestError:
    return RequestError(f"the request line is longer than {MAX_LINE} bytes", code="uri_too_long")


def _read_line(line: bytes) -> int:
    """The minor version."""
    if len(line) > MAX_LINE:
        raise _too_long()
    found = _LINE.fullmatch(line)
    if found is None:
        raise malformed("its first line is not METHOD PATH HTTP/1.1")
    if found[1] == b"CONNECT" or not _TARGET.fullmatch(found[2]):
        raise malformed("its target is not a path")  # nor a proxy's absolute form, nor `*`
    return int(found[3])


def _read_field(field: bytes) -> tuple[bytes, bytes]:
    found = _FIELD.fullmatch(field)
    if found is None:  # a folded line, a bare CR or LF, a NUL, white space before the colon
        raise malformed("a header line is not NAME: VALUE")
    return found[1].lower(), found[2].rstrip(b" \t")


def _check_host(found: dict[bytes, bytes], version: int) -> None:
    host = found.get(b"host")
    if host is None:
        if version == 1:
            raise malformed("it names no host")  # RFC 9112 §3.2
    elif not _HOST.fullmatch(host):
        raise malformed("its host is none")


def _check_upgrade(found: dict[bytes, bytes]) -> None:
    """An offer of HTTP/2 is passed over (RFC 9110 §7.8): some clients make it with every first request."""
    wanted = found.get(b"upgrade")
    if wanted is not None and wanted.lower() != b"h2c":
        raise malformed("it asks for another protocol")


def _framing(found: dict[bytes, bytes], version: int) -> tuple[bool, int]:
    """RFC 9112 §6: chunks, or a length, and never a choice."""
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise malformed("it has both a length and a transfer encoding")
        if version == 0 or coding.lower() != b"chunked":
            raise malformed("its transfer encoding is not 'chunked'")
        return True, 0
    if length is None:
        return False, 0
    if not length.isdigit() or len(length) > _MAX_DIGITS:
        raise malformed("its content-length is not a number")
    return False, int(length)
