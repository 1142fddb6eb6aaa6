"""The one way to a home's secret files: sealed where the home is, as they are where it is not.

Secret are all files in `keys/` and the keys in `tls/`, but for public halves and what says who opens the
home. One more is left as it is: `recovery.identity`, which is made to be carried away. A home is opened once,
with the first secret that is wanted (`Home.unlocking` says by what), and what needs none never asks.

In a sealed home a secret in the clear is none of ours: somebody who can write to the disk, and can not open
it, may have put it there. It is refused, but for files that are just on their way (`resealing`).
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from appliance import durable, keyslots
from appliance.config import Home
from appliance.errors import SetupError
from appliance.keyslots import HomeKey, Slots
from appliance.unlocking import Ask

RECOVERY: Final = "recovery.identity"
MAX_SECRET_BYTES: Final = 4096  # of what somebody hands over to open a home
_PUBLIC: Final = ".vkey"


def is_sealed(home: Home) -> bool:
    """Whether secrets here are sealed, or on their way to or from it. Needs no secret."""
    return home.slots.exists()


def read(home: Home, path: Path) -> bytes:
    """A secret file's content; any other file's as it is. OSError where it can not be read.

    SetupError where nothing opens this home, VerificationError where the file is not what was put there.
    """
    data = path.read_bytes()
    name = name_of(home, path)
    if name is None:
        return data
    if not is_sealed(home):
        if keyslots.is_sealed(data):
            raise SetupError(
                f"{name} is sealed, and keys/home.slots is missing: nothing opens this home",
                code="slots_missing",
                hint="restore keys/home.slots from a copy of this home, or the home from its box file",
            )
        return data
    unlock(home)
    if is_destroyed(data):
        raise FileNotFoundError(errno.ENOENT, "a destroyed secret", str(path))
    if keyslots.is_sealed(data):
        return keyslots.open_(home.unlocking.keys, name, data)
    if home.unlocking.state == "sealed":
        raise SetupError(
            f"{name} lies in the clear in a sealed home: it was not put there by the appliance",
            code="secret_in_the_clear",
            hint="find out who did; restore the file from a copy of this home",
        )
    return data


def write(home: Home, path: Path, secret: bytes) -> None:
    """Replace a file durably, sealed where it is a secret of a sealed home. OSError of the disk."""
    durable.write_file(path, envelope(home, path, secret))


def envelope(home: Home, path: Path, secret: bytes) -> bytes:
    """The bytes that `write` puts on the disk."""
    name = name_of(home, path)
    if name is None or not is_sealed(home):
        return secret
    unlock(home)
    if home.unlocking.state == "opening":
        return secret
    current = home.unlocking.current
    return keyslots.seal(HomeKey(home.unlocking.keys[current]), name, secret)


def rename(home: Home, path: Path, target: Path) -> None:
    """Give a secret file another name, durably; what had the name is destroyed. Can be done again."""
    durable.exchange(target, envelope(home, target, read(home, path)))
    durable.retire(path)


def is_destroyed(data: bytes) -> bool:
    """Whether a crash left this of a secret that was overwritten, and not yet removed."""
    return bool(data) and not any(data)


def name_of(home: Home, path: Path) -> str | None:
    """A secret file's name in its home; None for what is no secret of this home."""
    if path.suffix == _PUBLIC or path == home.slots or path.name == RECOVERY:
        return None
    if _is(path.parent, home.keys) or (path.suffix == ".key" and _is(path.parent, home.tls)):
        return f"{path.parent.name}/{path.name}"
    return None


def secret_files(home: Home) -> list[Path]:
    """Every secret file of this home, but for what a crash left."""
    found = [*home.keys.glob("*"), *home.tls.glob("*.key")]
    return sorted(
        each
        for each in found
        if each.is_file() and not each.name.startswith(".") and name_of(home, each) is not None
    )


def slots_of(home: Home) -> Slots:
    """Who opens this home, not authenticated. SetupError where it is not sealed."""
    try:
        return keyslots.parse(home.slots.read_bytes())
    except FileNotFoundError as error:
        raise SetupError(
            "the secrets of this home are not sealed",
            code="not_sealed",
            hint="appliance secrets seal",
        ) from error


def can_unlock_by_itself(home: Home) -> bool:
    """Whether no person has to be asked: it is not sealed, open already, or something was handed over."""
    found = home.unlocking
    has_one = found.given is not None or _credential(home) is not None
    return not is_sealed(home) or bool(found.keys) or has_one


def unlock(home: Home) -> None:
    """Open the home, once. SetupError where nothing does; it says the same for every wrong secret."""
    unlocking = home.unlocking
    with unlocking.lock:
        if unlocking.keys:
            return
        found = slots_of(home)
        key = _key_of(home, found)
        earlier = keyslots.earlier_of(found, key)
        use(home, key, found.state, earlier=earlier)


def use(home: Home, key: HomeKey, state: str, *, earlier: HomeKey | None = None) -> None:
    """From now on this key opens and seals what is read and written here."""
    with home.unlocking.lock:
        known = {key.id: key.secret} | ({earlier.id: earlier.secret} if earlier is not None else {})
        home.unlocking.keys, home.unlocking.current, home.unlocking.state = known, key.id, state


def text_of(path: Path) -> str:
    """A passphrase or credential in a file: its one line. SetupError where there is none to read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SetupError(
            f"what opens this home can not be read from {path}: {error.strerror}", code="home_locked"
        ) from error
    return line_of(data)


def line_of(data: bytes) -> str:
    """The one line of a passphrase or credential. SetupError where this is none."""
    try:
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > MAX_SECRET_BYTES or "\n" in text or "\0" in text:
        raise SetupError(
            "what was given to open this home is no line of text", code="home_locked", hint="it is one line"
        )
    return text


def _is(folder: Path, ours: Path) -> bool:
    """Whether a folder is this one, also where its path is written in another way."""
    if folder == ours:
        return True
    return folder.name == ours.name and folder.exists() and ours.exists() and folder.samefile(ours)


def _key_of(home: Home, found: Slots) -> HomeKey:
    """By the first source that there is."""
    unlocking = home.unlocking
    if unlocking.given is not None:
        return _opened(found, unlocking.given)
    if (credential := _credential(home)) is not None:
        return _opened(found, lambda: text_of(credential))
    if unlocking.ask is None:
        raise SetupError(
            "this home is sealed, and nothing that opens it was given",
            code="home_locked",
            hint="a passphrase at the terminal, --unlock FILE, or a credential by systemd: "
            "deploy/guides/secrets.md",
        )
    for left in reversed(range(unlocking.asks)):
        try:
            return _opened(found, unlocking.ask)
        except SetupError:
            if not left:
                raise
    raise AssertionError("a person is asked at least once")


def _credential(home: Home) -> Path | None:
    """The file of systemd's, where it is; one that we may not look for is there, and its reading says so."""
    path = home.unlocking.credential
    try:
        return path if path is not None and path.exists() else None
    except OSError:
        return path


def _opened(found: Slots, ask: Ask) -> HomeKey:
    key = keyslots.open_slots(found, ask())
    if key is None:
        raise SetupError(
            "what was given does not open this home",
            code="home_locked",
            hint="appliance secrets status lists what does",
        )
    return key
