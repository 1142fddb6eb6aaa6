"""Room: disks, inodes, mounts, and the clock. Pure."""

from __future__ import annotations

from typing import Final

from appliance.bundle.preflight.facts import Check, Facts, Level, Place, Wanted

VENV_BYTES: Final = 700 << 20  # app, environment and bytecode of one release
MIN_INODES: Final = 50_000  # an environment has some 15,000 files
_MIN_FREE_BYTES: Final = 1 << 30
_SPARE_PERCENT: Final = 20


def checks(facts: Facts, wanted: Wanted) -> list[Check]:
    """Disk and inodes of both places, mounts, clock."""
    return [
        *_disks(facts, wanted),
        _inodes(facts.releases),
        *_noexec(facts, wanted),
        _clock(facts, wanted),
    ]


def needed_bytes(facts: Facts, wanted: Wanted) -> tuple[int, int]:
    """(for releases, for state), spare room included; nothing where nothing shall be installed."""
    if wanted.manifest is None:
        return 0, 0
    staged = max(0, wanted.manifest.needs.disk_peak_bytes - wanted.staged_bytes)
    return _with_spare(VENV_BYTES), _with_spare(staged + facts.home_bytes)


def _disks(facts: Facts, wanted: Wanted) -> list[Check]:
    release, state = needed_bytes(facts, wanted)
    if facts.releases.device == facts.state.device:
        return [_disk(facts.state, release + state)]
    return [_disk(facts.releases, release), _disk(facts.state, state)]


def _disk(place: Place, needed: int) -> Check:
    name = f"room in {place.path}"
    found = f"{_gib(place.free_bytes)} GiB free" + (f", {_gib(needed)} needed" if needed else "")
    if place.free_bytes < max(needed, _MIN_FREE_BYTES if place.is_there else 0):
        return Check(
            name,
            Level.FAIL,
            found,
            "free some, or give it a disk of its own: appliance bundle list shows what is kept",
        )
    return Check(name, Level.OK, found)


def _inodes(place: Place) -> Check:
    if place.free_inodes is None:
        return Check("inodes", Level.OK, "not counted by this file system")
    if place.free_inodes < MIN_INODES:
        return Check(
            "inodes", Level.FAIL, f"{place.free_inodes} free", f"{MIN_INODES} are needed: many small files?"
        )
    return Check("inodes", Level.OK, f"{place.free_inodes} free")


def _noexec(facts: Facts, wanted: Wanted) -> list[Check]:
    matters = wanted.manifest is not None or facts.has_release
    if facts.releases.is_noexec and matters:
        return [
            Check(
                "mount options",
                Level.FAIL,
                f"{facts.releases.path} is mounted noexec",
                "libraries can not be loaded from there: mount it with exec",
            )
        ]
    if facts.state.is_noexec:
        return [
            Check("mount options", Level.OK, f"{facts.state.path} is mounted noexec: nothing runs from there")
        ]
    return [Check("mount options", Level.OK, "programs may run from where they are installed")]


def _clock(facts: Facts, wanted: Wanted) -> Check:
    built = wanted.manifest.built if wanted.manifest is not None else ""
    floor = max(built, wanted.floor)  # one format, so that text sorts as time
    if facts.now < floor:
        return Check(
            "clock",
            Level.FAIL,
            f"{facts.now}, and {floor} has been already",
            "set the clock: expiry dates are read with it, and so are the record's times",
        )
    return Check("clock", Level.OK, facts.now)


def _with_spare(size: int) -> int:
    return size + size * _SPARE_PERCENT // 100


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"
