"""Writing a whole range as evidence, file by file: memory does not grow with the range.

The files are those that `evidence.check` reads: every header from one place to another, and the tiles (C2SP
tlog-tiles) that prove that there are no others between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from appliance.audit import checkpoint, evidence, tiles
from appliance.audit.archive import File
from appliance.audit.checkpoint import Signer
from appliance.audit.tiles import Tile

ReadHeaders = Callable[[int, int], list[bytes]]  # [begin, end), a few hundred at most
ReadTile = Callable[[Tile], bytes]
_PAGE = tiles.WIDTH
_LARGE_HEADER = 2048  # bytes: whether a zip needs 64-bit sizes is told before it is written


@dataclass(frozen=True, slots=True)
class Range:
    """Every entry in [begin, end), in the tree of a checkpoint note."""

    begin: int
    end: int
    note: str
    policy: str

    @property
    def tree_size(self) -> int:
        """Of the checkpoint."""
        return checkpoint.parse(checkpoint.read_note(self.note).text).size


def files(
    chosen: Range, *, headers: ReadHeaders, tile_of: ReadTile, recipe: Mapping[str, bytes], signer: Signer
) -> Iterator[File]:
    """Every file of the range, its recipe and, last, the signed list of digests."""
    digests: dict[str, str] = {}

    def hashed(name: str, size: int, chunks: Iterable[bytes]) -> File:
        return File(name, size, _hashed(digests, name, chunks))

    def whole(name: str, data: bytes) -> File:
        return hashed(name, len(data), [data])

    begin, end, size = chosen.begin, chosen.end, chosen.tree_size
    yield whole(evidence.POLICY, chosen.policy.encode())
    yield whole(evidence.CHECKPOINT, chosen.note.encode())
    yield whole(evidence.RANGE, f"{begin} {end}\n".encode())
    yield hashed(evidence.HEADERS, (end - begin) * _LARGE_HEADER, _lines(begin, end, headers))
    for tile in tiles.tiles_of_range(size, begin, end):
        yield whole(tile.path, tile_of(tile))
    for tile in tiles.bundles_of_range(size, begin, end):
        first = tile.index * tiles.WIDTH
        yield whole(tile.entries_path, tiles.encode_entries(headers(first, first + tile.width)))
    for name, data in sorted(recipe.items()):
        yield whole(name, data)
    for name, data in evidence.signed_list(evidence.sums_of(digests), signer).items():
        yield File(name, len(data), [data])


def _hashed(digests: dict[str, str], name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for each in chunks:
        digest.update(each)
        yield each
    digests[name] = digest.hexdigest()


def _lines(begin: int, end: int, headers: ReadHeaders) -> Iterator[bytes]:
    for first in range(begin, end, _PAGE):
        yield b"".join(each + b"\n" for each in headers(first, min(first + _PAGE, end)))
