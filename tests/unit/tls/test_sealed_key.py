"""A server's key that lies sealed: served from memory, and a damaged one leaves what was served."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import durable, keyring, resealing
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.errors import SetupError
from appliance.resealing import NewWay
from appliance.tls import certificates
from appliance.tls.serving import Files, Serving
from tests.sealed import CREDENTIAL, OTHER, opened_by


def put(home: Home) -> str:
    """A new pair in the home; its fingerprint."""
    now = datetime.now(UTC).replace(microsecond=0)
    authority = certificates.new_authority("Tax office", [], now=now, days=9)
    pair = certificates.issue(authority, ["localhost"], now=now, days=9)
    keyring.write(home, home.tls / "server.key", pair.key)
    durable.write_file(home.tls / "server.crt", pair.certificate)
    return certificates.describe(pair.certificate).sha256


def test_a_damaged_key_leaves_what_is_served(tmp_path: Path) -> None:
    """Renewed it is taken, cut it is told as a pair that does not fit, and locked nothing starts."""
    home = opened_by(tmp_path, CREDENTIAL)
    for folder in (home.keys, home.tls):
        durable.make_private_dir(folder)
    resealing.establish(home, NewWay(CREDENTIAL))
    first = put(home)
    files = Files(home.tls / "server.crt", home.tls / "server.key", home=home)
    serving = Serving(files, SystemClock())
    assert serving.about.sha256 == first
    second = put(home)
    assert serving.refresh()
    assert serving.about.sha256 == second
    data = files.key.read_bytes()
    files.key.write_bytes(data[:-1])
    with pytest.raises(SetupError) as told:
        serving.refresh()
    assert (told.value.code, serving.about.sha256) == ("tls_mismatch", second)
    files.key.write_bytes(data)
    locked = opened_by(tmp_path, OTHER)
    with pytest.raises(SetupError, match="does not open"):
        Serving(Files(files.certificate, files.key, home=locked), SystemClock())
