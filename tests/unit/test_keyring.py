"""The one way to secret files: sealed where the home is, asked for once, and nothing planted is believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance import durable, keyring, keyslots, resealing
from appliance.config import Home, find_home
from appliance.errors import ApplianceError, SetupError, VerificationError
from appliance.resealing import NewWay
from appliance.unlocking import Unlocking
from tests.sealed import CREDENTIAL, OTHER, found_on, opened_by, secrets_of


@pytest.fixture
def sealed(tmp_path: Path) -> Home:
    """A home with two secrets and a public key, sealed by a credential."""
    home = opened_by(tmp_path / "home", CREDENTIAL)
    durable.make_private_dir(home.keys)
    resealing.establish(home, NewWay(CREDENTIAL))
    keyring.write(home, home.keys / "log.ed25519", bytes(range(32)))
    keyring.write(home, home.keys / "holds.key", bytes(range(32, 64)))
    keyring.write(home, home.keys / "log.vkey", b"public")
    return home


def code_of(home: Home, name: str = "log.ed25519") -> str:
    """How reading a secret ends."""
    try:
        keyring.read(home, home.keys / name)
    except ApplianceError as error:
        return error.code
    return ""


def test_what_is_sealed_and_what_is_not(sealed: Home) -> None:
    """Secrets are read as they were written and lie sealed; public halves and the recovery key do not."""
    assert secrets_of(sealed) == {
        "keys/log.ed25519": bytes(range(32)),
        "keys/holds.key": bytes(range(32, 64)),
    }
    assert found_on(sealed.root, secrets_of(sealed)) == set()
    keyring.write(sealed, sealed.keys / keyring.RECOVERY, b"to be carried away")
    for name in ("log.vkey", keyring.RECOVERY):
        assert not keyslots.is_sealed((sealed.keys / name).read_bytes())
    assert (sealed.keys / "log.ed25519").stat().st_mode & 0o777 == 0o600
    outside = sealed.root / "appliance.toml"
    keyring.write(sealed, outside, b"x")
    assert outside.read_bytes() == keyring.read(sealed, outside) == b"x"


def test_keys_of_tls(sealed: Home) -> None:
    """The keys in tls/ are sealed, its certificates are not, and a key elsewhere is its owner's affair."""
    durable.make_private_dir(sealed.tls)
    for path in (sealed.tls / "server.key", sealed.tls / "server.crt", sealed.root / "server.key"):
        keyring.write(sealed, path, b"-----BEGIN")
        assert keyslots.is_sealed(path.read_bytes()) == (path == sealed.tls / "server.key")
        assert keyring.read(sealed, path) == b"-----BEGIN"
    (sealed.root.parent / "link").symlink_to(sealed.root)
    again = sealed.root.parent / "link/tls/server.key"  # as a configuration may write it
    assert keyring.read(sealed, again) == b"-----BEGIN"


def test_an_open_home_is_as_it_was(tmp_path: Path) -> None:
    """Without slots, files are read and written as every release did."""
    home = opened_by(tmp_path, None)
    durable.make_private_dir(home.keys)
    keyring.write(home, home.keys / "log.ed25519", bytes(32))
    assert (
        (home.keys / "log.ed25519").read_bytes() == keyring.read(home, home.keys / "log.ed25519") == bytes(32)
    )


@pytest.mark.parametrize("secret", [None, OTHER, "some other words", "", "apphome1-"])
def test_without_the_secret_nothing_opens(sealed: Home, secret: str | None) -> None:
    """No secret, a wrong one, one of another kind: locked, and the words are the same for every wrong one."""
    closed = opened_by(sealed.root, secret)
    with pytest.raises(SetupError) as refused:
        keyring.read(closed, sealed.keys / "log.ed25519")
    assert refused.value.code == "home_locked"
    if secret is not None:
        assert refused.value.message == "what was given does not open this home"
    assert code_of(closed, "log.vkey") == ""  # what is public needs none
    with pytest.raises(SetupError):
        keyring.write(closed, sealed.keys / "index-2026-11.key", bytes(32))
    assert not (sealed.keys / "index-2026-11.key").exists()


def test_a_person_is_asked_once_and_may_mistype(sealed: Home) -> None:
    """The right words at the third try open the home for everything that follows; three wrong ones end it."""
    said = iter(["wrong", OTHER, CREDENTIAL, "never asked"])
    asked = Home(sealed.root, Unlocking())
    asked.unlocking.ask = lambda: next(said)
    assert len(secrets_of(asked)) == 2
    assert next(said) == "never asked"
    tries = iter(["a", "b", "c", "d"])
    asked = Home(sealed.root, Unlocking())
    asked.unlocking.ask = lambda: next(tries)
    assert code_of(asked) == "home_locked"
    assert next(tries) == "d"


def test_sources_in_their_order(sealed: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was named goes before systemd's credential, and that before the terminal."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    home = find_home(str(sealed.root))
    assert not keyring.can_unlock_by_itself(home)
    assert code_of(home) == "home_locked"  # the folder holds none for us
    folder.chmod(0o700)
    (folder / "appliance-home-key").write_text(f"{CREDENTIAL}\n")
    (folder / "appliance-home-key").chmod(0o400)
    folder.chmod(0o500)
    home = find_home(str(sealed.root))
    home.unlocking.ask = lambda: pytest.fail("nobody is asked")
    assert keyring.can_unlock_by_itself(home)
    assert code_of(home) == ""
    home = find_home(str(sealed.root))
    home.unlocking.given = lambda: OTHER
    assert code_of(home) == "home_locked"


def test_a_credential_that_may_not_be_read(sealed: Home, tmp_path: Path) -> None:
    """A folder that systemd closed to us is told as it is, and nobody is asked instead."""
    home = Home(sealed.root, Unlocking(tmp_path / ("x" * 300)))  # no name that a file can have: not ENOENT
    home.unlocking.ask = lambda: pytest.fail("nobody is asked")
    with pytest.raises(SetupError, match="can not be read"):
        keyring.read(home, sealed.keys / "log.ed25519")


@pytest.mark.parametrize("data", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 5000, b"nul\0byte"])
def test_what_is_no_line(tmp_path: Path, data: bytes) -> None:
    """A file that is none of ours is refused before anything slow is tried with it."""
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(SetupError, match="no line"):
        keyring.text_of(path)


def test_lines_end_as_editors_end_them(tmp_path: Path) -> None:
    """With a line feed, with both, or without; blanks at the end are part of a passphrase."""
    path = tmp_path / "secret"
    for data in (b"some words ", b"some words \n", b"some words \r\n"):
        path.write_bytes(data)
        assert keyring.text_of(path) == "some words "


def test_planted_files_are_refused(sealed: Home) -> None:
    """In the clear, of another file, of another home, cut: each is told, and none is used."""
    good = (sealed.keys / "log.ed25519").read_bytes()
    other = opened_by(sealed.root.parent / "other", OTHER)
    durable.make_private_dir(other.keys)
    resealing.establish(other, NewWay(OTHER))
    keyring.write(other, other.keys / "log.ed25519", bytes(32))
    lies = {
        "secret_in_the_clear": [bytes(range(1, 33)), b""],
        "secret_damaged": [
            (sealed.keys / "holds.key").read_bytes(),
            (other.keys / "log.ed25519").read_bytes(),
            good[:-1],
            good[:10],
        ],
    }
    for code, planted in lies.items():
        for data in planted:
            (sealed.keys / "log.ed25519").write_bytes(data)
            assert code_of(opened_by(sealed.root, CREDENTIAL)) == code
    (sealed.keys / "log.ed25519").write_bytes(good)
    assert code_of(opened_by(sealed.root, CREDENTIAL)) == ""


def test_a_destroyed_secret_is_gone(sealed: Home) -> None:
    """What a crash left of a secret that was overwritten is no secret, and no sign of an intruder."""
    (sealed.keys / "log.ed25519").write_bytes(bytes(100))
    with pytest.raises(FileNotFoundError):
        keyring.read(sealed, sealed.keys / "log.ed25519")


def test_slots_that_are_gone_or_anothers(sealed: Home) -> None:
    """Without its slots a sealed home says so, and opens by nobody else's."""
    other = opened_by(sealed.root.parent / "other", OTHER)
    durable.make_private_dir(other.keys)
    resealing.establish(other, NewWay(CREDENTIAL))
    shutil.copy(other.slots, sealed.slots)
    assert code_of(opened_by(sealed.root, CREDENTIAL)) == "secret_damaged"
    sealed.slots.write_bytes(b"{}")
    assert code_of(opened_by(sealed.root, CREDENTIAL)) == "slots_damaged"
    sealed.slots.unlink()
    assert code_of(opened_by(sealed.root, CREDENTIAL)) == "slots_missing"


def test_another_name(sealed: Home) -> None:
    """A secret that takes another's place opens under the new name, and what was there is gone."""
    old, new = sealed.keys / "holds.key", sealed.keys / "log.ed25519"
    keyring.rename(sealed, old, new)
    assert not old.exists()
    assert secrets_of(opened_by(sealed.root, CREDENTIAL)) == {"keys/log.ed25519": bytes(range(32, 64))}


def test_a_home_shows_nothing(sealed: Home) -> None:
    """Neither a home nor its unlocking tells a key where it is written down."""
    keyring.unlock(sealed)
    shown = f"{sealed!r} {sealed.unlocking!r}"
    for key in sealed.unlocking.keys.values():
        assert key.hex() not in shown
        assert repr(key) not in shown


def test_damage_is_no_setup(sealed: Home) -> None:
    """A damaged secret is bytes that lie, whatever was asked for."""
    (sealed.keys / "log.ed25519").write_bytes((sealed.keys / "log.ed25519").read_bytes()[:-3])
    with pytest.raises(VerificationError):
        keyring.read(sealed, sealed.keys / "log.ed25519")
