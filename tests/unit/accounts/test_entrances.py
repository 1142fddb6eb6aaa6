"""The way in: its row holds everything, and nobody guesses a code within what is counted."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import create_engine, insert

from appliance.accounts import entrances
from appliance.accounts.codes import DIGITS, WINDOW
from appliance.accounts.entrances import MAX_WRONG_CODES, Entrance, Factor
from appliance.audit.entry import row_digest

NOW_US = 1_790_000_000_000_000
FACTOR = Factor("sha1", b"sealed", bytes(320), NOW_US, 59_666_666)
FULL = Entrance("p_abcdefghij", 3, 2, NOW_US, NOW_US + 1, NOW_US - 1, must_enrol=True, factor=FACTOR)


@pytest.mark.parametrize("known", [FULL, Entrance("p_abcdefghij"), dataclasses.replace(FULL, factor=None)])
def test_row_holds_every_field(known: Entrance) -> None:
    """What the record commits to is all that the entrance knows, and it comes back as it was."""
    row = entrances.row_of(known)
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        entrances.entrance.create(connection)
        connection.execute(insert(entrances.entrance).values(**row))
        found = entrances.load(connection)
    engine.dispose()

    assert set(row) == set(entrances.entrance.c.keys())
    assert found == [known]
    assert FACTOR.num_recovery == 10
    assert "sealed" not in repr(known).replace("sealed=", "")


def test_rows_digest_is_what_records_of_this_release_commit_to() -> None:
    """A row that is told otherwise would turn every record red that was written before."""
    assert row_digest(entrances.row_of(FULL)) == (
        "fa27783761eb59026ade300dc940c61d74d661b13dadf03fef0ae6af011a77c4"
    )


def test_all_codes_that_count_guess_one_with_less_than_a_chance_in_a_thousand() -> None:
    """At most three codes are right at a time, and a hundred may be tried behind the right passphrase."""
    codes_in_force = 2 * WINDOW + 1
    chance = 1 - (1 - codes_in_force / 10**DIGITS) ** MAX_WRONG_CODES

    assert MAX_WRONG_CODES <= 100  # SP 800-63B-4 §3.2.2
    assert chance < 1 / 1000


def test_hundredth_wrong_code_ends_the_factor() -> None:
    """Wrong passphrases do not: whoever does not know it takes nobody's second factor away."""
    known = Entrance("p_1", factor=FACTOR)
    for _ in range(MAX_WRONG_CODES - 1):
        known = known.failed(now_us=NOW_US, wait_seconds=0, with_passphrase=True)
        known = known.failed(now_us=NOW_US, wait_seconds=0, with_passphrase=False)
    assert not known.is_factor_locked
    known = known.failed(now_us=NOW_US, wait_seconds=0, with_passphrase=True)

    assert known.is_factor_locked
    assert known.unlocked().is_factor_locked
    assert not known.without_factor(must_enrol=True).is_factor_locked
