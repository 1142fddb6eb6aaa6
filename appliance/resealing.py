"""A home's secrets on their way into their envelopes, out of them, or under another key. The caller holds the
home's lock, and has put the act on the record.

    slots    who opens the home, and that files are on their way (`sealing`, `opening`)     the commit point
    files    one by one: the new file beside the old, renamed over it, the old one overwritten
    slots    that none is; or, where nothing is sealed any more, no slots at all

Files say themselves what they are under, so a crash between any two steps leaves a home that opens: with the
old secret before the commit point, with the new one behind it. Whoever opens the log next ends it (`finish`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance import durable, keyring, keyslots
from appliance.config import Home
from appliance.errors import RequestError, SetupError
from appliance.keyslots import HomeKey, Slot, Slots


@dataclass(frozen=True, slots=True)
class NewWay:
    """What opens the home from now on: a secret, and the name of its slot (empty: one is given)."""

    secret: str
    name: str = ""
    fips: bool = False

    def slot(self, key: HomeKey, others: tuple[Slot, ...] = ()) -> Slot:
        """The home's key under the secret. RequestError where another slot has the name."""
        name = self.name or keyslots.free_name(others, keyslots.way_of(self.secret))
        if any(each.name == name for each in others):
            raise RequestError("another slot of this home has this name", code="slot_exists")
        return keyslots.new_slot(key, name, self.secret, fips=self.fips)

    def __repr__(self) -> str:
        """Without the secret."""
        return f"NewWay(name={self.name!r})"


def establish(home: Home, way: NewWay) -> None:
    """A new home is sealed from its first secret on. SetupError where it has secrets already."""
    require_unsealed(home)
    if keyring.secret_files(home):
        raise SetupError(
            "this home has secrets already", code="already_initialised", hint="appliance secrets seal"
        )
    key = keyslots.new_key()
    _write(home, keyslots.made(key, [way.slot(key)]))
    keyring.use(home, key, "sealed")


def seal(home: Home, way: NewWay) -> int:
    """Seal every secret of a home that is not sealed; how many there are."""
    require_unsealed(home)
    key = keyslots.new_key()
    # Known first: another thread's new secret may meet the file of slots at any moment.
    keyring.use(home, key, "sealing")
    _write(home, keyslots.made(key, [way.slot(key)], "sealing"))
    return finish(home)


def unseal(home: Home) -> int:
    """Every secret as it is, for its owner to read; how many there are."""
    key, found = opened(home)
    _write(home, keyslots.made(key, found.ways, "opening"))
    keyring.use(home, key, "opening")
    return finish(home)


def rotate(home: Home, way: NewWay) -> int:
    """A fresh key under this way alone, and every secret under that key; how many there are."""
    earlier, _ = opened(home)
    key = keyslots.new_key()
    _write(home, keyslots.made(key, [way.slot(key)], "sealing", earlier=earlier))
    keyring.use(home, key, "sealing", earlier=earlier)
    return finish(home)


def add(home: Home, way: NewWay) -> Slots:
    """Another way to open the home: what the file of slots becomes (`put`)."""
    key, found = opened(home)
    return keyslots.made(key, [*found.ways, way.slot(key, found.ways)])


def remove(home: Home, name: str) -> Slots:
    """One way less: what the file of slots becomes (`put`). Whoever kept a copy of the old file and the
    secret still has the home's key: `rotate` changes that.
    """
    key, found = opened(home)
    return keyslots.made(key, keyslots.without(found, name))


def put(home: Home, found: Slots) -> None:
    """The file of slots, in the place of another, which is destroyed."""
    _write(home, found)


def opened(home: Home) -> tuple[HomeKey, Slots]:
    """The key of a sealed home, and who else has it. SetupError where it is half sealed."""
    keyring.unlock(home)
    found = keyring.slots_of(home)
    if found.state != "sealed":
        raise SetupError(
            "this home is half sealed: something was interrupted",
            code="half_sealed",
            hint="appliance secrets finish; a gateway that starts does the same",
        )
    return HomeKey(home.unlocking.keys[home.unlocking.current]), found


def finish(home: Home) -> int:
    """Do what is left of an interrupted act, if any; how many secrets there are. Does nothing otherwise."""
    for folder in (home.keys, home.tls):
        durable.sweep(folder)
    if not keyring.is_sealed(home) or keyring.slots_of(home).state == "sealed":
        return len(keyring.secret_files(home))
    keyring.unlock(home)
    found = keyring.slots_of(home)
    paths = keyring.secret_files(home)
    for path in paths:
        if keyring.is_destroyed(path.read_bytes()):
            path.unlink()  # a crash came before that
        else:
            _settle(home, path)
    if found.state == "opening":
        durable.retire(home.slots)
        home.unlocking.forget()
        return len(paths)
    key = HomeKey(home.unlocking.keys[home.unlocking.current])
    _write(home, keyslots.made(key, found.ways))
    keyring.use(home, key, "sealed")
    return len(paths)


def require_unsealed(home: Home) -> None:
    """SetupError where the home has its seal."""
    if keyring.is_sealed(home):
        raise SetupError(
            "the secrets of this home are sealed already",
            code="already_sealed",
            hint="appliance secrets add, remove or rotate change what opens them",
        )


def _settle(home: Home, path: Path) -> None:
    """One file as it has to be; one that is so already stays."""
    name, data = keyring.name_of(home, path) or "", path.read_bytes()
    if home.unlocking.state == "opening":
        is_done = not keyslots.is_sealed(data)
    else:
        is_done = keyslots.is_sealed(data) and keyslots.key_id_of(data, name) == home.unlocking.current
    if not is_done:
        durable.exchange(path, keyring.envelope(home, path, keyring.read(home, path)))


def _write(home: Home, found: Slots) -> None:
    durable.exchange(home.slots, keyslots.encode(found))
