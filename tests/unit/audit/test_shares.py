"""Shares: one for each subject and month, gone for good once erased, missed where somebody took one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit import shares
from appliance.audit.shares import ShareStore
from appliance.config import Home
from appliance.errors import SetupError, VerificationError


@pytest.fixture
def place(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.keys.mkdir()
    shares.create(home)
    return home


@contextlib.contextmanager
def opened(home: Home) -> Iterator[ShareStore]:
    store = ShareStore(home)
    try:
        yield store
    finally:
        store.close()


def test_subject_keeps_its_share_for_a_month(place: Home) -> None:
    """The same one over restarts; another for another month or person."""
    with opened(place) as store:
        first = store.of("key:a", "2026-11", since_seq=3)
        assert store.of("key:a", "2026-12", since_seq=4).id != first.id
        assert store.of("key:b", "2026-11", since_seq=5).id != first.id
    with opened(place) as store:
        assert store.of("key:a", "2026-11", since_seq=9) == first
        assert [each.month for each in store.find("key:a")] == ["2026-11", "2026-12"]
    assert shares.release(place, [first.id]) == {first.id: first.secret}
    assert shares.share_id(first.secret) == first.id


def test_erased_share_is_gone_from_every_file(place: Home) -> None:
    """Neither the store nor its old key, nor a copy of the store made before, gives it back."""
    with opened(place) as store:
        doomed, kept = (store.of(f"key:{name}", "2026-11", since_seq=1) for name in "ab")
        copy = place.root / "copy.db"
        with (
            contextlib.closing(sqlite3.connect(place.shares)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        assert store.erase([doomed.id]) == 1
        assert store.find("key:a") == []
        assert store.of("key:b", "2026-11", since_seq=7) == kept
        assert store.of("key:a", "2026-11", since_seq=8).id != doomed.id
    assert shares.release(place, [doomed.id, kept.id]) == {kept.id: kept.secret}
    held = b"".join(path.read_bytes() for path in place.root.rglob("*") if path.is_file())
    assert doomed.secret not in held
    assert [path.name for path in place.keys.iterdir()] == ["shares-2.kek"]
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT kek FROM share").fetchall() == [
            (1,),
            (1,),
        ]  # whose key is destroyed


@pytest.mark.parametrize("leftover", [1, 3])
def test_crash_in_an_erasure_leaves_one_key(place: Home, leftover: int) -> None:
    """Both keys may be there: the one that the rows name is kept, the other goes."""
    with opened(place) as store:
        kept = store.of("key:b", "2026-11", since_seq=1)
        store.erase([])
    (place.keys / f"shares-{leftover}.kek").write_bytes(bytes(32))
    with opened(place) as store:
        assert store.of("key:b", "2026-11", since_seq=2) == kept
    assert [path.name for path in place.keys.iterdir()] == ["shares-2.kek"]


def test_missing_file_or_key_is_told(place: Home) -> None:
    """A store that lost its file or its key is an error for the operator, and no new one is made."""
    key = place.keys / "shares-1.kek"
    with opened(place) as store:
        store.of("key:a", "2026-11", since_seq=1)
    for path, damage in ((key, None), (key, b"short"), (place.shares, None), (place.shares, b"x" * 5000)):
        whole = path.read_bytes()
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(SetupError) as refused:
            ShareStore(place)
        assert refused.value.code == "shares_missing"
        path.write_bytes(whole)
    with opened(place):
        pass


@pytest.mark.parametrize("column", ["id", "nonce", "sealed"])
def test_exchanged_share_is_noticed(place: Home, column: str) -> None:
    """A row that was altered opens for nobody, and is not handed out."""
    with opened(place) as store:
        found = store.of("key:a", "2026-11", since_seq=1)
    with contextlib.closing(sqlite3.connect(place.shares, isolation_level=None)) as sql:
        sql.execute(f"UPDATE share SET {column} = zeroblob(length({column}))")
    with pytest.raises(VerificationError):
        shares.release(place, [found.id, bytes(16)])


def test_file_names_nobody(place: Home) -> None:
    """Who holds the file of shares without its key learns no subject."""
    with opened(place) as store:
        store.of("user:abc:canary-4711", "2026-11", since_seq=1)
    held = b"".join(path.read_bytes() for path in place.root.iterdir() if path.is_file())

    assert b"canary" not in held
    assert "canary" not in repr(shares.find(place, "user:abc:canary-4711"))
