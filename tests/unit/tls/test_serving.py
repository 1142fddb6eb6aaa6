"""What is served: another certificate under running listeners, and what is not taken."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from appliance.errors import SetupError
from appliance.tls import certificates
from appliance.tls.certificates import Pair, utc
from appliance.tls.serving import Files, Serving
from tests.clocks import ManualClock


class Place:
    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.files = Files(folder / "server.crt", folder / "server.key")
        self.authority = certificates.new_authority("Tax office", [], now=self.now)

    @property
    def now(self) -> datetime:
        return utc(self.clock.now_us())

    def pair(self, days: int = 90) -> Pair:
        return certificates.issue(self.authority, ["box.example"], now=self.now, days=days)

    def write(self, pair: Pair) -> Pair:
        self.files.key.write_bytes(pair.key)
        self.files.certificate.write_bytes(pair.certificate)
        return pair


@pytest.fixture
def place(tmp_path: Path, clock: ManualClock) -> Place:
    return Place(tmp_path, clock)


def test_new_files_are_served_once(place: Place) -> None:
    """A connection takes the context of its moment: what it began with stays as it was."""
    place.write(place.pair())
    serving = Serving(place.files, place.clock)
    before = (serving.context, serving.about.sha256)
    assert not serving.refresh()

    place.write(place.pair())

    assert serving.refresh()
    assert serving.context is not before[0]
    assert serving.asking is serving.context
    assert serving.about.sha256 != before[1]
    assert not serving.refresh()


def test_a_pair_that_does_not_fit_is_told_once_and_not_served(place: Place) -> None:
    """Half of a new pair, or garbage: what was served goes on until the files are right."""
    place.write(place.pair())
    serving = Serving(place.files, place.clock)
    before = serving.about
    new = place.pair()
    for half in (Pair(new.certificate, place.files.key.read_bytes()), Pair(b"none", new.key)):
        place.write(half)
        with pytest.raises(SetupError):
            serving.refresh()
        assert serving.problem
        assert serving.about is before
        assert not serving.refresh()

    place.write(new)

    assert serving.refresh()
    assert serving.problem == ""


def test_a_certificate_that_is_over_does_not_follow_one_that_is_not(place: Place) -> None:
    """An old file put back by mistake would lock every client out."""
    old = place.pair(days=1)
    place.clock.advance(timedelta(days=2).total_seconds())
    place.write(place.pair())
    serving = Serving(place.files, place.clock)
    place.write(old)

    with pytest.raises(SetupError) as refused:
        serving.refresh()

    assert refused.value.code == "tls_over"
    assert not serving.is_over


def test_time_goes_by_while_it_is_served(place: Place) -> None:
    """It is served on, and known to be over."""
    place.write(place.pair(days=1))
    serving = Serving(place.files, place.clock)
    assert not serving.is_over

    place.clock.advance(timedelta(days=2).total_seconds())

    assert serving.is_over
    assert Serving(place.files, place.clock).is_over  # and a start with it shows what is wrong


def test_a_key_under_a_passphrase_is_refused_and_nobody_is_asked(place: Place) -> None:
    """OpenSSL would wait at the terminal."""
    pair = place.pair()
    key = serialization.load_pem_private_key(pair.key, None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"words"),
    )
    place.write(Pair(pair.certificate, sealed))

    with pytest.raises(SetupError) as refused:
        Serving(place.files, place.clock)

    assert refused.value.code == "tls_mismatch"


def test_missing_files_are_named_by_their_kind(place: Place) -> None:
    """At the start, and when they vanish later."""
    with pytest.raises(SetupError) as refused:
        Serving(place.files, place.clock)
    assert refused.value.code == "tls_missing"

    place.write(place.pair())
    serving = Serving(place.files, place.clock)
    place.files.key.unlink()
    with pytest.raises(SetupError):
        serving.refresh()
