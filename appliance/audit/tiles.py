"""C2SP tlog-tiles: the tree and its entries as files, 256 hashes or entries each. Pure.

Tile (level L, index N) holds the hashes of the complete subtrees (8·L, 256·N …) of merkle.py, so tiles
are views of the nodes that the log stores. The rightmost tile of a level may be partial. An entry bundle
holds the entries of a tile of level 0, each behind its length in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from appliance.audit import merkle
from appliance.audit.merkle import HASH_BYTES, Frontier, ReadNode, leaf_hash
from appliance.errors import VerificationError

WIDTH = 256
HEIGHT = 8  # levels of the tree in one tile
_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile's place; `width` is below 256 for a partial one."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """`tile/L/N[.p/W]`."""
        return f"tile/{self.level}/{_place(self.index, self.width)}"

    @property
    def entries_path(self) -> str:
        """`tile/entries/N[.p/W]`: the entries of this tile of level 0."""
        return f"tile/entries/{_place(self.index, self.width)}"


def tiles_of(size: int, level: int) -> Iterator[Tile]:
    """The tiles of one level of a tree, the partial one last."""
    full, rest = divmod(size >> HEIGHT * level, WIDTH)
    yield from (Tile(level, index) for index in range(full))
    if rest:
        yield Tile(level, full, rest)


def num_levels(size: int) -> int:
    """How many levels of tiles a tree has."""
    return -(-size.bit_length() // HEIGHT)


def tiles_of_range(size: int, begin: int, end: int) -> list[Tile]:
    """What proves that [begin, end) is all there is between: these tiles of the leaves, every tile above.

    The partial tile of the leaves is among them too: the root needs it.
    """
    leaves = [
        tile
        for tile in tiles_of(size, 0)
        if tile.width < WIDTH or (begin < (tile.index + 1) * WIDTH and tile.index * WIDTH < end)
    ]
    return leaves + [tile for level in range(1, num_levels(size)) for tile in tiles_of(size, level)]


def encode(tile: Tile, read: ReadNode) -> bytes:
    """A tile's file, from stored nodes."""
    first = tile.index * WIDTH
    return b"".join(read(HEIGHT * tile.level, first + offset) for offset in range(tile.width))


def decode(tile: Tile, data: bytes) -> list[bytes]:
    """A tile's hashes. VerificationError where the file has another length."""
    if len(data) != tile.width * HASH_BYTES:
        raise VerificationError("a tile has another length")
    return [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """An entry bundle."""
    return b"".join(len(each).to_bytes(_LENGTH_BYTES, "big") + each for each in entries)


def bundles_of_range(size: int, begin: int, end: int) -> list[Tile]:
    """The tiles of the leaves whose entries all lie in [begin, end)."""
    return [
        tile
        for tile in tiles_of(size, 0)
        if begin <= tile.index * WIDTH and tile.index * WIDTH + tile.width <= end
    ]


def check(size: int, root: bytes, tiles: Mapping[Tile, bytes], begin: int, entries: Sequence[bytes]) -> None:
    """That `entries` are all there is from `begin` on in the tree of this size and root.

    VerificationError unless the tiles hang together up to the root and the entries down to them.
    """
    end = begin + len(entries)
    if not 0 <= begin <= end <= size or set(tiles) != set(tiles_of_range(size, begin, end)):
        raise VerificationError("tiles are missing, or too many")
    found = {(tile.level, tile.index): decode(tile, data) for tile, data in tiles.items()}

    def read(level: int, index: int) -> bytes:
        """A node of the tree's right edge, hashed from the one tile that it lies in."""
        span = 1 << level % HEIGHT
        place, first = divmod(index * span, WIDTH)
        return _root(found[level // HEIGHT, place][first : first + span])

    if Frontier.load(size, read).root() != root:
        raise VerificationError("the tiles do not lead to the checkpoint's root")
    for (level, index), hashes in found.items():
        place, offset = divmod(index, WIDTH)
        if len(hashes) == WIDTH and _root(hashes) != found[level + 1, place][offset]:
            raise VerificationError("a tile is not what the tile above it says")
    for seq, data in enumerate(entries, begin):
        if found[0, seq // WIDTH][seq % WIDTH] != leaf_hash(data):
            raise VerificationError(f"entry {seq} is not what the tree holds there")


def _root(hashes: Sequence[bytes]) -> bytes:
    """Of a complete subtree."""
    row = list(hashes)
    while len(row) > 1:
        row = [merkle.node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def _place(index: int, width: int) -> str:
    """Three digits a folder, `x` before all but the last: C2SP tlog-tiles."""
    groups = []
    while True:
        index, group = divmod(index, 1000)
        groups.append(f"{group:03d}")
        if not index:
            break
    path = "/".join([*(f"x{each}" for each in reversed(groups[1:])), groups[0]])
    return path if width == WIDTH else f"{path}.p/{width}"
