"""Documents with one form only: sorted keys, UTF-8, no spaces, one trailing line feed. Pure.

What says the same in another way (a key twice, another order, a number with a fraction) is refused, so that
nobody can sign one reading and have another one read.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from appliance.bundle.refusals import BundleRefused, Exit

_T = TypeVar("_T", bound=msgspec.Struct)


def decode(data: bytes, kind: type[_T], *, name: str, limit: int) -> _T:
    """A document of at most `limit` bytes. BundleRefused (11) says what is not in its form."""
    if len(data) > limit:
        raise BundleRefused(Exit.BAD_METADATA, f"{name} has over {limit} bytes")
    try:
        found = msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BundleRefused(Exit.BAD_METADATA, f"{name} is not in its format: {error}") from error
    if encode(found) != data:
        raise BundleRefused(Exit.BAD_METADATA, f"{name} is not in its canonical form")
    return found


def encode(document: msgspec.Struct) -> bytes:
    """The bytes."""
    return msgspec.json.encode(document, order="sorted") + b"\n"
