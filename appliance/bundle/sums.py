"""`SHA256SUMS`: digests of files, as `sha256sum` writes and checks them. Pure.

One line each: 64 hexadecimal digits in lower case, two spaces, the path, a line feed; sorted by path, so that
one content is one list. `sha256sum --check --strict` reads the same. Every line's path is one that a bundle
may hold (`layout.PATH`), because `sha256sum` would follow `..` and `/` to wherever they lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from appliance.bundle import layout
from appliance.bundle.refusals import BundleRefused, Exit

_BETWEEN: Final = "  "  # text mode; coreutils writes `space *` for binary mode, which means the same here


def parse(data: bytes) -> dict[str, str]:
    """The digests by path, in the list's order. BundleRefused (11) where a line is not in the form."""
    found = read(data, "the list of digests")
    if dump(found) != data:
        raise _bad("the list of digests is not sorted, or names a path twice")
    return found


def read(data: bytes, name: str) -> dict[str, str]:
    """Digests by path in the form of `sha256sum`, sorted or not, of whatever folder `name` is about."""
    if len(data) > layout.MAX_SUMS_BYTES:
        raise _bad(f"{name} has over {layout.MAX_SUMS_BYTES} bytes")
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _bad(f"{name} is not plain ASCII") from error
    if lines.pop():
        raise _bad(f"{name} is empty or was cut")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        digest, between, path = line[:64], line[64:66], line[66:]
        if between != _BETWEEN or layout.DIGEST.fullmatch(digest) is None or not layout.is_path(path):
            raise _bad(f"line {number} of {name} is not a digest and a path: {line[:160]!r}")
        if path in found:
            raise _bad(f"line {number} of {name} names a path twice: {path[:160]!r}")
        found[path] = digest
    if len({path.casefold() for path in found}) != len(found):
        raise _bad(f"{name} names two paths that differ by case only")
    return found


def dump(digests: Mapping[str, str]) -> bytes:
    """The list's bytes, sorted by path. BundleRefused (11) for what `parse` would not take."""
    if not digests:
        raise _bad("the list of digests is empty")
    _check(digests)
    return "".join(f"{digests[path]}{_BETWEEN}{path}\n" for path in sorted(digests)).encode("ascii")


def _check(digests: Mapping[str, str]) -> None:
    """What one medium or one folder could not hold, and what no list can say about itself."""
    for path, digest in digests.items():
        if not layout.is_path(path) or layout.DIGEST.fullmatch(digest) is None:
            raise _bad(f"not a digest and a path of a bundle: {path[:80]!r}")
        if layout.UNLISTED.fullmatch(path):
            raise _bad(f"the list of digests names {path}, which is made after it")
    folded = {path.casefold() for path in digests}
    if len(folded) != len(digests):
        raise _bad("the list of digests names two paths that differ by case only")
    for path in folded:
        if any(str(above) in folded for above in PurePosixPath(path).parents):
            raise _bad(f"the list of digests names {path} and its folder as files")


def _bad(message: str) -> BundleRefused:
    return BundleRefused(Exit.BAD_METADATA, message)
