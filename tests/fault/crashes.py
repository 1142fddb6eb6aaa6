"""What a disk may hold after the power went: files rebuilt from a trace, call by call.

A write is certain once its file was synced, a name once its folder was. Until then each may have
happened or not, in any order, and a write may have happened in part, by sectors of 512 bytes.
The wal-index (-shm) is shared memory: nothing in it has to survive, so a crash leaves garbage.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fault.strace import Call

SECTOR: Final = 512
VARIANTS: Final = ("dropped", "kept", "names only", "data only", "random", "reordered", "torn")
_SHARED = "-shm"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes on their way to a file; None for a new length."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class Inode:
    """One file: what is certain of it, and what is on its way."""

    certain: bytes = b""
    pending: list[Write] = field(default_factory=list)

    def sync(self) -> None:
        """Everything that was on its way has arrived."""
        self.certain = written(self.certain, self.pending)
        self.pending = []


@dataclass(frozen=True, slots=True)
class Naming:
    """A change of a folder: a name gets a file, or loses it (None); a rename is both at once."""

    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Crash:
    """One state of the disk, and what had been acknowledged by then."""

    files: dict[str, bytes]
    acknowledged: tuple[bytes, ...]
    moment: int  # the number of calls before it
    variant: str
    call: str  # the last call before it

    def build(self, root: Path, likeness: Path) -> None:
        """Make it real in `root`; folders and what was never traced come from `likeness`."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o700, parents=True)
        for folder in sorted(path for path in likeness.rglob("*") if path.is_dir()):
            (root / folder.relative_to(likeness)).mkdir(mode=0o700)
        for name, data in self.files.items():
            path = root / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)


def written(before: bytes, writes: Iterable[Write]) -> bytes:
    """A file's bytes behind these writes."""
    data = bytearray(before)
    for each in writes:
        if each.data is None:
            del data[each.offset :]
            data.extend(bytes(each.offset - len(data)))
            continue
        data.extend(bytes(max(0, each.offset - len(data))))
        data[each.offset : each.offset + len(each.data)] = each.data
    return bytes(data)


class Disk:
    """Follows a trace. `root` is the folder as it lay on the disk when the trace began."""

    def __init__(self, root: Path, acks: Path, before: dict[str, bytes]) -> None:
        self._root = str(root) + "/"
        self._acks = str(acks)
        self._inodes: list[Inode] = []
        self._certain: dict[str, int] = {}
        self._pending: list[Naming] = []
        self._names: dict[str, int] = {}  # as the running program sees them
        self._open: dict[int, tuple[str, int, int]] = {}  # descriptor → (what, inode, position)
        self.acknowledged: list[bytes] = []
        for name, data in before.items():
            self._certain[name] = self._names[name] = self._add(data)

    def _add(self, data: bytes = b"") -> int:
        self._inodes.append(Inode(data))
        return len(self._inodes) - 1

    def follow(self, call: Call) -> bool:
        """Take one call; True where it changed what a crash would leave."""
        match call.name:
            case "openat":
                return self._opened(call)
            case "close":
                self._open.pop(int(call.rest.split(",")[0]), None)
            case "pwrite64":
                fd, _, _, offset = call.rest.split(", ")
                return self._write(int(fd), int(offset), call.texts[0][: call.result])
            case "write":
                return self._appended(int(call.rest.split(",")[0]), call.texts[0][: call.result])
            case "ftruncate":
                fd, length = call.rest.split(", ")
                return self._write(int(fd), int(length), None)
            case "fallocate":
                fd, mode, offset, length = call.rest.split(", ")
                if int(fd) in self._open:
                    assert mode == "0", call
                    return self._grow(int(fd), int(offset) + int(length))
            case "fdatasync" | "fsync":
                return self._sync(int(call.rest))
            case "rename" | "unlink":
                return self._rename([each.decode() for each in call.texts])
            case "mmap":
                self._mapped(call.rest.split(", "))
            case "mkdir":
                pass  # folders are there in every state: `init` makes them again anyway
            case "fcntl":
                assert "F_DUPFD" not in call.rest or int(call.rest.split(",")[0]) not in self._open
            case _:
                raise AssertionError(f"the model does not know {call.name}")
        return False

    def _name(self, path: str) -> str | None:
        return path.removeprefix(self._root) if path.startswith(self._root) else None

    def _opened(self, call: Call) -> bool:
        path, fd = call.texts[0].decode(), call.result
        self._open.pop(fd, None)
        if path == self._acks:
            self._open[fd] = ("acks", 0, 0)
        elif path + "/" == self._root or ((self._name(path) or "") and "O_DIRECTORY" in call.rest):
            self._open[fd] = ("folder", 0, 0)
        elif (name := self._name(path)) is not None and "O_PATH" not in call.rest:
            is_new = name not in self._names
            if is_new:
                self._names[name] = self._add()
                self._pending.append(Naming(((name, self._names[name]),)))
            self._open[fd] = (name, self._names[name], 0)
            if "O_TRUNC" in call.rest:
                return self._write(fd, 0, None)
            return is_new
        return False

    def _write(self, fd: int, offset: int, data: bytes | None) -> bool:
        if fd not in self._open or self._open[fd][0].endswith(_SHARED):
            return False
        self._inodes[self._open[fd][1]].pending.append(Write(offset, data))
        return True

    def _grow(self, fd: int, length: int) -> bool:
        inode = self._inodes[self._open[fd][1]]
        now = len(written(inode.certain, inode.pending))
        return self._write(fd, length, None) if length > now else False

    def _appended(self, fd: int, data: bytes) -> bool:
        what, inode, position = self._open.get(fd, ("", 0, 0))
        if what == "acks":
            self.acknowledged.append(data)
            return True
        if not self._write(fd, position, data):
            return False
        self._open[fd] = (what, inode, position + len(data))
        return True

    def _sync(self, fd: int) -> bool:
        what, inode, _ = self._open.get(fd, ("", 0, 0))
        if what == "folder":
            self._certain = named(self._certain, self._pending)
            self._pending = []
        elif what:
            self._inodes[inode].sync()
        return bool(what)

    def _rename(self, paths: list[str]) -> bool:
        names = [self._name(path) for path in paths]
        if not names[0]:
            assert not any(names), "a file came from elsewhere"
            return False
        change: list[tuple[str, int | None]] = [(names[0], None)]
        if len(names) == 2:
            assert names[1], "a file went elsewhere"
            change.append((names[1], self._names[names[0]]))
        self._pending.append(Naming(tuple(change)))
        self._names = named(self._names, self._pending[-1:])
        return True

    def _mapped(self, arguments: list[str]) -> None:
        what = self._open.get(int(arguments[4]), ("", 0, 0))[0] if arguments[4] != "-1" else ""
        if what and "PROT_WRITE" in arguments[2] and "MAP_SHARED" in arguments[3]:
            assert what.endswith(_SHARED), f"{what} is written by way of memory: the trace does not see it"

    def crash(self, variant: str, chance: random.Random) -> dict[str, bytes]:
        """The files as the power may leave them at this moment."""
        keeps_names = variant in {"kept", "names only"}
        count = len(self._pending) if keeps_names else 0
        if variant in {"random", "reordered", "torn"}:
            count = chance.randint(0, len(self._pending))  # folders are journalled: in order
        found = {}
        for name, number in named(self._certain, self._pending[:count]).items():
            inode = self._inodes[number]
            found[name] = written(inode.certain, _survivors(inode.pending, variant, chance))
            if name.endswith(_SHARED):
                found[name] = chance.choice([b"", chance.randbytes(32_768)])
        return found


def named(before: dict[str, int], changes: Iterable[Naming]) -> dict[str, int]:
    """A folder behind these changes."""
    names = dict(before)
    for name, number in itertools.chain.from_iterable(each.names for each in changes):
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number
    return names


def _survivors(pending: list[Write], variant: str, chance: random.Random) -> list[Write]:
    match variant:
        case "kept" | "data only":
            return pending
        case "dropped" | "names only":
            return []
        case "random":
            return [each for each in pending if chance.random() < 0.5]
        case "reordered":
            return chance.sample(pending, k=chance.randint(0, len(pending)))
        case _:
            return [part for each in pending for part in _torn(each, chance)]


def _torn(each: Write, chance: random.Random) -> Iterator[Write]:
    """The sectors of a write that arrived: each by itself may not have."""
    if each.data is None:
        if chance.random() < 0.5:
            yield each
        return
    begin = each.offset
    while begin < each.offset + len(each.data):
        end = min(begin - begin % SECTOR + SECTOR, each.offset + len(each.data))
        if chance.random() < 0.7:
            yield Write(begin, each.data[begin - each.offset : end - each.offset])
        begin = end


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a folder, by its relative name."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def crashes(
    make: Callable[[], Disk], calls: Sequence[Call], count: int, chance: random.Random
) -> Iterator[Crash]:
    """About `count` states, spread over every kind of call and every variant; no two of them alike."""
    chosen: dict[int, list[str]] = {}
    for moment, variant in _spread(make(), calls, count, chance):
        chosen.setdefault(moment, []).append(variant)
    disk = make()
    seen: set[tuple[int, int]] = set()
    for moment, call in enumerate(calls):
        disk.follow(call)
        for variant in chosen.get(moment, ()):
            files = disk.crash(variant, chance)
            state = (hash(tuple(sorted(files.items()))), len(disk.acknowledged))
            if state not in seen:
                seen.add(state)
                yield Crash(files, tuple(disk.acknowledged), moment, variant, call.name)


def _spread(
    disk: Disk, calls: Sequence[Call], count: int, chance: random.Random
) -> Iterator[tuple[int, str]]:
    """Moments and variants: a rare kind of call gets as many as a frequent one, while it has any."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for moment, call in enumerate(calls):
        if disk.follow(call):
            kinds.setdefault(call.name, []).extend((moment, variant) for variant in VARIANTS)
    for each in kinds.values():
        chance.shuffle(each)
    rounds = itertools.zip_longest(*kinds.values())
    every = (each for turn in rounds for each in turn if each is not None)
    return itertools.islice(every, count)
