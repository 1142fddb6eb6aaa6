"""Bundles: how fast one is verified and copied beside the hash and beside `cp`, and what it weighs.

A model of 1 GiB of random bytes, cached, on the disk of the checkout. Each figure is the best of some rounds,
in which ours and the peer's take turns. The time from a stick to the first answer is measured by the scenario
of `make test-offline`, which leaves it in the cache (`times.json`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.bundle import copying, hashing, layout, manifest, signing, verifying
from appliance.bundle.hashing import Wanted
from appliance.bundle.layout import Site
from tests import bundles, signed
from tests.bench.audit_log import CACHE
from tests.bench.figures import Row, Run
from tests.clocks import ManualClock

MODEL_BYTES = 1 << 30
ROUNDS = 4
TARGET = 0.9
BUNDLES = CACHE.parent.parent / "dist"  # where `make bundle` puts them
_MB = 1e6


def run(run: Run) -> list[Row]:
    """MB/s beside hashlib's and cp's; MB by role; seconds to the first answer where they were measured."""
    folder = run.folder()
    folder.mkdir()
    who = signed.office(folder / "roots")
    bundle = _signed(folder / "bundle", who)
    site = Site(folder / "host")
    taken = copying.take([bundle], site)
    staged = taken.staging
    whole = folder / "model"
    whole.write_bytes(b"".join(path.read_bytes() for path in sorted((staged / layout.BLOBS).rglob("*.p*"))))
    wanted = Wanted("model", whole, hashing.digest(whole)[0], MODEL_BYTES)
    size = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())

    def verify() -> None:
        prints = who.prints()[:2]
        verifying.verify(staged, site, ManualClock(signed.NOW_US), fingerprints=prints, machine="x86_64")

    hashed, peer = _turns(lambda: hashing.check([wanted]), lambda: _hashlib(whole))
    verified, all_peer = _turns(verify, lambda: [_hashlib(path) for path in _files(staged)])
    copied, cp = _turns(lambda: _copy(bundle, folder / "taken"), lambda: _cp(bundle, folder / "cp"), rounds=2)
    run.note(f"a model of {MODEL_BYTES / _MB:,.0f} MB, cached; hashlib reads with file_digest, on one core")
    run.note(
        "a bundle is verified on all cores; copying hashes and syncs every file, cp -r is followed by sync"
    )
    rate, parts = MODEL_BYTES / _MB, size / _MB
    return [
        Row("verify, one file", "MB/s", rate / hashed, "hashlib", rate / peer, at_least=TARGET),
        Row("verify, a bundle", "MB/s", parts / verified, "hashlib", parts / all_peer, at_least=TARGET),
        Row("copy to the host", "MB/s", parts / copied, "cp and sync", parts / cp),
        *_weights(run),
        *_first_answers(run),
    ]


def _signed(place: Path, who: signed.Office) -> Path:
    """`bundles.tiny`, with a model of `MODEL_BYTES` in parts as they are in releases."""
    small = bundles.PART_BYTES
    bundles.PART_BYTES = layout.PART_BYTES
    try:
        bundles.tiny(place, built=signed.BUILT, model=os.urandom(MODEL_BYTES))
    finally:
        bundles.PART_BYTES = small
    signing.start(place, who.folder, 700)
    for key in who.some:
        signing.sign(place, key)
    return place


def _turns(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, float]:
    """The best seconds of each, taking turns so that a noisy minute hits both."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for at, work in enumerate((ours, theirs)):
            began = time.perf_counter()
            work()
            best[at] = min(best[at], time.perf_counter() - began)
    return best[0], best[1]


def _hashlib(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def _copy(bundle: Path, root: Path) -> None:
    copying.take([bundle], Site(root))
    shutil.rmtree(root)


def _cp(bundle: Path, to: Path) -> None:
    subprocess.run(["cp", "-r", str(bundle), str(to)], check=True)
    subprocess.run(["sync", "--file-system", str(to)], check=True)
    shutil.rmtree(to)


def _weights(run: Run) -> list[Row]:
    """MB of the newest bundle that lies in dist/, by what its files are for."""
    found = [manifest.parse(path.read_bytes()) for path in BUNDLES.glob(f"appliance-*/{layout.MANIFEST}")]
    if not found:
        run.note("no bundle lies in dist/, so its bytes are not told (make bundle)")
        return []
    newest = max(found, key=lambda each: each.serial)
    by_role = Counter({"model": sum(blob.size for blob in newest.blobs)})
    for each in newest.files:
        by_role[each.role] += each.size
    run.note(f"release {newest.release}, serial {newest.serial}: {len(newest.files)} files")
    return [Row(f"bytes, {role}", "MB", size / _MB) for role, size in by_role.most_common() if size]


def _first_answers(run: Run) -> list[Row]:
    """From a stick to a kiosk's first answer, and what was carried in, by the host's system."""
    base = os.environ.get("APPLIANCE_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "appliance"
    )
    times = Path(base, "roots", "times.json")
    if not times.is_file():
        run.note("the time from a stick to the first answer is not here (make test-offline)")
        return []
    told: dict[str, dict[str, float]] = json.loads(times.read_text(encoding="utf-8"))
    rows = []
    for suite, life in sorted(told.items()):
        rows.append(Row(f"{suite}: stick to first answer", "s", life["stick_to_first_answer_seconds"]))
        rows.append(Row(f"{suite}: carried in", "MB", life["bundle_bytes"] / _MB))
    return rows
