"""Seal, unseal, another key, other slots: whole, or as before, wherever the process is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import durable, keyring, keyslots, resealing
from appliance.config import Home
from appliance.errors import ApplianceError, RequestError, SetupError
from appliance.resealing import NewWay
from tests.sealed import CREDENTIAL, OTHER, PASSPHRASE, found_on, opened_by, secrets_of

SECRETS = {
    "keys/log.ed25519": bytes(range(32)),
    "keys/shares-1.kek": bytes(range(32, 64)),
    "tls/server.key": b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n",
}
_CALLS = ("write", "fsync", "replace", "rename", "link", "unlink", "open", "ftruncate")


@pytest.fixture
def clear(tmp_path: Path) -> Home:
    """A home with three secrets in the clear, and what a crash of an earlier writing left."""
    home = opened_by(tmp_path / "home", CREDENTIAL)
    for folder in (home.keys, home.tls):
        durable.make_private_dir(folder)
    for name, secret in SECRETS.items():
        keyring.write(home, home.root / name, secret)
    (home.keys / ".log.ed25519.tmp").write_bytes(SECRETS["keys/log.ed25519"][:20])
    (home.keys / "log.vkey").write_bytes(b"public")
    return home


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Do something in a child that ends by SIGKILL at its n-th call that changes a disk; whether it did."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counting(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)

            return counted

        for name in _CALLS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            act()
        except BaseException:
            os._exit(2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def opens(root: Path, secret: str | None) -> bool:
    """Whether a home opens with this, to the same secrets as ever."""
    try:
        return secrets_of(opened_by(root, secret)) == SECRETS
    except ApplianceError:
        return False


def through_every_kill(
    home: Home, act: Callable[[Home], object], before: str | None, after: str | None
) -> int:
    """Kill the act at every step, each time on a fresh copy: it opens with the secret before or after, and
    finishing leaves what the whole act leaves. How many steps there were.
    """
    step, kept = 0, home.root.with_name("kept")
    shutil.copytree(home.root, kept)
    while True:
        step += 1
        shutil.rmtree(home.root)
        shutil.copytree(kept, home.root)
        died = killed_at(step, lambda: act(opened_by(home.root, before)))
        ways = [each for each in {before, after} if opens(home.root, each)]
        assert ways, f"killed at step {step}: nothing opens it"
        finished = opened_by(home.root, ways[-1])
        resealing.finish(finished)
        assert secrets_of(finished) == SECRETS
        leftovers = [each.name for each in home.root.rglob(".*")]
        assert leftovers == [], f"killed at step {step}"
        sealed = keyring.is_sealed(finished)
        assert found_on(home.root, SECRETS) == (set() if sealed else set(SECRETS)), f"killed at step {step}"
        if sealed:
            assert keyring.slots_of(finished).state == "sealed"
        if not died:
            assert after in ways
            return step


def test_sealing_can_be_killed(clear: Home) -> None:
    """In the clear or sealed, never lost, and once finished nothing is left in the clear."""
    num_steps = through_every_kill(
        clear, lambda home: resealing.seal(home, NewWay(CREDENTIAL)), None, CREDENTIAL
    )
    assert num_steps > 30


def test_unsealing_can_be_killed(clear: Home) -> None:
    """Sealed or in the clear, never lost; the slots are gone at the end."""
    resealing.seal(clear, NewWay(CREDENTIAL))
    assert through_every_kill(clear, resealing.unseal, CREDENTIAL, None) > 30
    assert not clear.slots.exists()


def test_another_key_can_be_killed(clear: Home) -> None:
    """The old secret opens it or the new one, never neither; at the end the new one alone."""
    resealing.seal(clear, NewWay(CREDENTIAL))
    before = keyring.slots_of(clear).key
    assert (
        through_every_kill(clear, lambda home: resealing.rotate(home, NewWay(OTHER)), CREDENTIAL, OTHER) > 30
    )
    assert not opens(clear.root, CREDENTIAL)
    assert keyring.slots_of(clear).key != before
    assert before.encode() not in b"".join(each.read_bytes() for each in clear.keys.iterdir())


def test_other_slots_can_be_killed(clear: Home) -> None:
    """A slot that is added or removed: the way that stays opens the home at every step."""
    resealing.seal(clear, NewWay(CREDENTIAL))

    def both(home: Home) -> None:
        resealing.put(home, resealing.add(home, NewWay(OTHER, "second")))
        resealing.put(home, resealing.remove(home, "credential-1"))

    assert through_every_kill(clear, both, CREDENTIAL, OTHER) > 10
    assert not opens(clear.root, CREDENTIAL)


def test_a_home_that_is_born_sealed(tmp_path: Path) -> None:
    """From its first secret on nothing lies in the clear; one that has secrets is not taken for new."""
    home = opened_by(tmp_path / "home", None)
    durable.make_private_dir(home.keys)
    resealing.establish(home, NewWay(PASSPHRASE, "person"))
    keyring.write(home, home.keys / "log.ed25519", bytes(range(32)))
    assert found_on(home.root, {"key": bytes(range(32))}) == set()
    assert keyring.slots_of(home).ways[0].name == "person"
    assert keyring.read(opened_by(home.root, PASSPHRASE), home.keys / "log.ed25519") == bytes(range(32))
    with pytest.raises(SetupError, match="sealed already"):
        resealing.establish(home, NewWay(OTHER))
    resealing.unseal(home)
    with pytest.raises(SetupError, match="secrets already"):
        resealing.establish(home, NewWay(OTHER))


def test_slots_are_for_several(clear: Home) -> None:
    """A passphrase for people beside a credential for the service; no file is written anew for it."""
    resealing.seal(clear, NewWay(CREDENTIAL))
    files = {each: each.read_bytes() for each in keyring.secret_files(clear)}
    resealing.put(clear, resealing.add(clear, NewWay(PASSPHRASE, "safe")))
    assert opens(clear.root, CREDENTIAL)
    assert opens(clear.root, PASSPHRASE)
    with pytest.raises(RequestError, match="this name"):
        resealing.add(clear, NewWay(OTHER, "safe"))
    resealing.put(clear, resealing.remove(clear, "credential-1"))
    assert not opens(clear.root, CREDENTIAL)
    assert {each: each.read_bytes() for each in keyring.secret_files(clear)} == files
    with pytest.raises(RequestError, match="last slot"):
        resealing.remove(clear, "safe")


def test_twice_is_refused(clear: Home) -> None:
    """Sealing a sealed home and unsealing an open one change nothing."""
    with pytest.raises(SetupError, match="not sealed"):
        resealing.unseal(clear)
    resealing.seal(clear, NewWay(CREDENTIAL))
    slots = clear.slots.read_bytes()
    with pytest.raises(SetupError, match="sealed already"):
        resealing.seal(clear, NewWay(OTHER))
    assert clear.slots.read_bytes() == slots


def test_half_sealed_is_said(clear: Home) -> None:
    """What was interrupted is finished first; a wrong secret finishes nothing."""
    resealing.seal(clear, NewWay(CREDENTIAL))
    key, found = resealing.opened(clear)
    resealing.put(clear, keyslots.made(key, found.ways, "opening"))
    with pytest.raises(SetupError, match="half sealed"):
        resealing.opened(opened_by(clear.root, CREDENTIAL))
    with pytest.raises(SetupError, match="does not open"):
        resealing.finish(opened_by(clear.root, OTHER))
    assert found_on(clear.root, SECRETS) == set()


def test_a_forged_wish_to_unseal_is_not_followed(clear: Home) -> None:
    """Whoever can write to the disk can not have the next start lay the secrets down in the clear."""
    resealing.seal(clear, NewWay(CREDENTIAL))
    clear.slots.write_bytes(clear.slots.read_bytes().replace(b'"state": "sealed"', b'"state": "opening"'))
    with pytest.raises(ApplianceError) as refused:
        resealing.finish(opened_by(clear.root, CREDENTIAL))
    assert refused.value.code == "slots_changed"
    assert found_on(clear.root, SECRETS) == set()
