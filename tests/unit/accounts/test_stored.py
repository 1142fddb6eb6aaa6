"""Stored responses open for their own key only, live by hours, and go with their subject."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from appliance import durable
from appliance.accounts.stored import Owner, ResponseStore
from appliance.config import Home, Responses
from appliance.errors import RequestError, Unavailable, VerificationError
from tests.clocks import ManualClock

MINE, OTHER = Owner("mine", "apk_mine_secret"), Owner("other", "apk_other_secret")
HOUR = 3600


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    durable.make_private_dir(made.keys)
    return made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(home: Home, clock: ManualClock) -> ResponseStore:
    return ResponseStore(home, clock, Responses(store_max_responses=3, store_max_mib=16))


def put(store: ResponseStore, name: str, data: bytes = b"words", *subjects: str, owner: Owner = MINE) -> None:
    store.put(owner, name, data, subjects=subjects or ("key:mine",), expires_us=store.expires_us())


def test_opens_for_the_key_that_stored_it(store: ResponseStore) -> None:
    """Another key finds nothing there, with its own id; and the right id with another token opens nothing."""
    put(store, "resp_1")

    assert store.get(MINE, "resp_1") == b"words"
    assert store.get(OTHER, "resp_1") is None
    assert store.get(MINE, "resp_2") is None
    with pytest.raises(VerificationError):
        store.get(Owner("mine", "apk_other_secret"), "resp_1")


def test_the_disk_holds_nothing_to_read(store: ResponseStore, home: Home) -> None:
    """Neither words nor subjects nor tokens, in a file that only its owner may open."""
    put(store, "resp_1", b"canary-words", "user:mine:canary-person")
    written = home.responses.read_bytes()

    assert b"canary" not in written
    assert b"apk_" not in written
    assert home.responses.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE response SET sealed = zeroblob(length(sealed))",
        "UPDATE response SET salt = zeroblob(16)",
        "UPDATE response SET nonce = x''",
        "UPDATE response SET expires_us = expires_us + 1",
        "UPDATE response SET created_us = created_us + 1",
        "UPDATE response SET id = 'resp_2'",
    ],
)
def test_a_row_that_was_changed_opens_no_more(store: ResponseStore, home: Home, change: str) -> None:
    """Its id, owner and times are bound to its words."""
    put(store, "resp_1")
    with sqlite3.connect(home.responses) as sql:
        sql.execute(change)
    sql.close()

    with pytest.raises(VerificationError):
        store.get(MINE, "resp_2" if "resp_2" in change else "resp_1")


def test_time_ends_it(store: ResponseStore, home: Home, clock: ManualClock) -> None:
    """Behind its hours it is not told, and then not there."""
    put(store, "resp_1")
    clock.advance(24 * HOUR)

    assert store.get(MINE, "resp_1") is None
    store.expire()
    with sqlite3.connect(home.responses) as sql:
        counts = [
            sql.execute(f"SELECT count(*) FROM {each}").fetchone()[0] for each in ("response", "subject")
        ]
    sql.close()
    assert counts == [0, 0]


def test_the_oldest_make_room_of_their_own_key_only(store: ResponseStore, clock: ManualClock) -> None:
    """By number and by size; what another key stored stays."""
    put(store, "resp_x", owner=OTHER)
    for number in range(4):
        clock.advance(1)
        put(store, f"resp_{number}")
    kept = [store.get(MINE, f"resp_{number}") is not None for number in range(4)]
    clock.advance(1)
    put(store, "resp_big", bytes(15 << 20))
    clock.advance(1)
    put(store, "resp_bigger", bytes(15 << 20))

    assert kept == [False, True, True, True]
    assert store.get(MINE, "resp_big") is None
    assert store.get(MINE, "resp_bigger") is not None
    assert store.get(OTHER, "resp_x") == b"words"
    with pytest.raises(RequestError):
        put(store, "resp_huge", bytes(17 << 20))


def test_erasing_a_subject_removes_what_holds_its_words(store: ResponseStore) -> None:
    """Also where somebody else's words stand in the same conversation; others' responses stay."""
    put(store, "resp_1", b"a", "user:mine:ada")
    put(store, "resp_2", b"b", "user:mine:ada", "user:mine:bob")
    put(store, "resp_3", b"c", "user:mine:bob")

    assert store.erase(["user:mine:ada", "user:other:ada"]) == 2
    assert [store.get(MINE, f"resp_{number}") for number in (1, 2, 3)] == [None, None, b"c"]


def test_without_a_file_there_is_nothing(store: ResponseStore, home: Home) -> None:
    """Nothing is made by looking, erasing or expiring."""
    assert store.get(MINE, "resp_1") is None
    assert store.erase(["key:mine"]) == 0
    store.expire()

    assert not home.responses.exists()


def test_a_store_that_lost_its_key_begins_anew(store: ResponseStore, home: Home) -> None:
    """An erasure could find nothing in it any more: better none of it than that."""
    put(store, "resp_1")
    (home.keys / "responses.key").unlink()
    put(store, "resp_2")

    assert store.get(MINE, "resp_1") is None
    assert store.get(MINE, "resp_2") == b"words"


def test_a_broken_file_is_said_so(store: ResponseStore, home: Home) -> None:
    """Not now, and nobody is shown anything else."""
    put(store, "resp_1")
    home.responses.write_bytes(b"no database" * 1000)

    with pytest.raises(Unavailable) as problem:
        store.get(MINE, "resp_1")
    assert problem.value.code == "store_unavailable"
