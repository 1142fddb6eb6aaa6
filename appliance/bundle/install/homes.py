"""What root does around the home: the account that owns it, and programs that work in it as that account."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.bundle.install import programs
from appliance.bundle.install.programs import Account, ProgramFailed
from appliance.bundle.layout import Site
from appliance.errors import SetupError

NAME: Final = "appliance"
PROBATION: Final = "probation"  # in the home: the gateway lets nobody in while it is there
_HOMECOPY: Final = "appliance.bundle.install.homecopy"


def account_of(site: Site) -> Account | None:
    """Who owns the home. None below another root than `/` (in tests): then it is ourselves."""
    if site.root != Path("/"):
        return None
    try:
        found = pwd.getpwnam(NAME)
    except KeyError:
        return None
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def make_account(site: Site) -> Account | None:
    """Make the service's user where there is none. SetupError where the host can not."""
    if site.root != Path("/") or account_of(site) is not None:
        return account_of(site)
    command = shutil.which("useradd", path=programs.CLEAN["PATH"])
    if command is None:
        raise SetupError("this host has no useradd", code="account_missing", hint=f"make a user {NAME}")
    words = ["--system", "--user-group", "--no-create-home", "--home-dir", str(site.home)]
    programs.run([command, *words, "--shell", "/usr/sbin/nologin", NAME], None, seconds=60, given="")
    return account_of(site)


def make_places(site: Site, account: Account | None) -> None:
    """Root's folders, and the home, which is the account's."""
    for folder, mode in (
        (site.releases, 0o755),
        (site.state, 0o755),
        (site.store, 0o755),
        (site.trust, 0o755),
        (site.receipts, 0o755),
        (site.staging, 0o700),
        (site.backups, 0o700),
    ):
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(mode)
    if not site.home.exists():
        make_owned(site.home, account)


def is_sealed(site: Site, account: Account | None) -> bool:
    """Whether the home's secrets want something that opens them."""
    slots = site.home / "keys/home.slots"
    try:
        programs.run(["/bin/sh", "-c", 'test -e "$1"', "sh", str(slots)], account, seconds=60, given="")
    except ProgramFailed:
        return False
    return True


def make_owned(path: Path, account: Account | None) -> None:
    """An empty folder of the account's, in one of root's."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def write_owned(path: Path, text: str, account: Account | None) -> None:
    """A small file in a folder of the account's, written by the account."""
    programs.run(["/bin/sh", "-c", 'cat > "$1"', "sh", str(path)], account, seconds=60, given=text)


def mark_probation(site: Site, account: Account | None) -> None:
    """From the next start on the gateway lets nobody in."""
    write_owned(site.home / PROBATION, "", account)


def clear_probation(site: Site, account: Account | None) -> None:
    """The gateway lets everybody in from the next start on."""
    programs.run(["/bin/rm", "-f", str(site.home / PROBATION)], account, seconds=60, given="")


def link_models(home: Path, store: Path, digests: list[str], account: Account | None) -> None:
    """Models of the store, linked into a home."""
    if digests:
        programs.run_module(_HOMECOPY, "link", str(home), str(store), *digests, account=account)


def back_up(site: Site, name: str, account: Account | None) -> None:
    """Copy the home to `backups/<name>`, which only root can reach behind it."""
    place = site.backups / name
    make_owned(place, account)
    with reachable(site):
        programs.run_module(_HOMECOPY, "take", str(site.home), str(place), account=account)


def put_back(site: Site, name: str, account: Account | None) -> dict[str, str | int]:
    """The home as it was copied; what the log that moves to `backups/<name>-failed` remembers."""
    failed = site.backups / f"{name}-failed"
    if not failed.exists():
        make_owned(failed, account)
    with reachable(site):
        said = programs.run_module(
            _HOMECOPY, "put-back", str(site.home), str(site.backups / name), str(failed), account=account
        )
    found = json.loads(said)
    thin(site, f"{name}-failed", account)
    return dict(found)


def thin(site: Site, name: str, account: Account | None) -> None:
    """Destroy shares and keys in a copy that nothing has to go back to."""
    if (site.backups / name).exists():
        with reachable(site):
            programs.run_module(_HOMECOPY, "thin", str(site.backups / name), account=account)


@contextlib.contextmanager
def reachable(site: Site) -> Iterator[None]:
    """For as long as the account works in there; otherwise only root passes."""
    site.backups.chmod(0o711)
    try:
        yield
    finally:
        site.backups.chmod(0o700)


def drop_backups(site: Site, *keep: str) -> None:
    """Remove all copies but these."""
    with contextlib.suppress(FileNotFoundError):
        for each in site.backups.iterdir():
            if each.is_dir() and each.name not in keep:
                shutil.rmtree(each)
