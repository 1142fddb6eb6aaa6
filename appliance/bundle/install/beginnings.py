"""Before and around the switch: may this upgrade be made, and what the home needs for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance import config
from appliance.bundle.install import homes, programs, steps
from appliance.bundle.install.journal import Plan
from appliance.bundle.install.programs import Account, Program
from appliance.bundle.install.releases import Installed
from appliance.bundle.install.steps import What
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.refusals import BundleRefused, Exit

_SQLITE: Final = "appliance.db"


@dataclass(frozen=True, slots=True)
class First:
    """What a first installation gives to `appliance init`; `files` are copied to where the account reads
    them.
    """

    words: tuple[str, ...] = ()
    files: tuple[tuple[str, Path], ...] = ()  # (option, file)
    config: Path | None = None
    seal: str = field(default="", repr=False)  # a passphrase or credential that the home is sealed with


def check_order(plan: Plan, about: Manifest, here: Installed | None, *, allow_downgrade: bool) -> None:
    """BundleRefused: 102 where the bundle is older than what runs, 20 where another one has to come first."""
    if here is None or plan.what is What.ROLLBACK:
        return
    installed = here.about.serial
    if about.serial <= installed and not allow_downgrade:
        raise BundleRefused(
            Exit.DOWNGRADE,
            f"bundle {about.serial} ({about.release}) is not newer than {installed} ({here.about.release})",
            hint="to go back to the release before: appliance bundle rollback",
        )
    rule = about.upgrade_from
    if not steps.is_upgrade_allowed(installed, min_serial=rule.min_serial, via=rule.via):
        stops = sorted(each for each in rule.via if each > installed)
        first = f"bundle {stops[0]}" if stops else f"a bundle from {rule.min_serial} on"
        raise BundleRefused(
            Exit.PREFLIGHT,
            f"bundle {about.serial} can not follow {installed} directly",
            hint=f"install {first} first",
        )


def check_schema(
    site: Site,
    plan: Plan,
    schema: Mapping[str, Any],
    account: Account | None,
    *,
    restore_backup: bool,
) -> None:
    """The schema will change. BundleRefused (20) where that can not be undone, or loses what nobody agreed to
    lose.
    """
    if not str(schema["database"]).endswith(_SQLITE):
        raise BundleRefused(
            Exit.PREFLIGHT,
            "the record lies on a server, and this release brings another schema: there would be no way back",
            hint="deploy/guides/bundles.md, PostgreSQL: how it is done by hand",
        )
    if plan.what is not What.ROLLBACK:
        return
    copy = site.backups / plan.source / "files"
    if not plan.source or not (copy / _SQLITE).exists():
        raise BundleRefused(
            Exit.PREFLIGHT, f"{plan.release} does not read this schema, and no copy in its own is kept"
        )
    now = _size(programs.run(["/bin/cat", str(site.home / "head")], account, seconds=60, given=""))
    then = _size((copy / "head").read_text(encoding="utf-8"))
    if not restore_backup:
        raise BundleRefused(
            Exit.PREFLIGHT,
            f"{plan.release} does not read schema {schema['revision']}: going back means the record as it "
            f"was with {then} entries, and {now - then} entries after it would be missing",
            hint="with --restore-backup the record is put back, what stands there moves to the archive, "
            "and the log stays closed until a quorum of auditors lets another begin: deploy/guides/backup.md",
        )


def check_unlock(site: Site, account: Account | None, unlock: str) -> None:
    """The record will be written to while no gateway runs. BundleRefused (20) where that can not be."""
    if not unlock and not config.credentials() and homes.is_sealed(site, account):
        raise BundleRefused(
            Exit.PREFLIGHT,
            "the home is sealed, and its schema changes: the record is written to while no gateway runs",
            hint="give what opens the home: --unlock FILE (-: standard input); deploy/guides/secrets.md",
        )


def prepare(site: Site) -> Account | None:
    """A first installation: the account and the places."""
    account = homes.make_account(site)
    homes.make_places(site, account)
    return account


def begin(site: Site, program: Program, first: First) -> None:
    """A home with keys and a log; one that is there already is kept as it is."""
    config = site.home / "appliance.toml"
    if first.config is not None and not config.exists():
        homes.write_owned(config, first.config.read_text(encoding="utf-8"), program.account)
    public = site.state / "public"
    words = list(first.words)
    if first.files and not (site.home / "head").exists():
        homes.make_owned(public, program.account)
        for number, (option, file) in enumerate(first.files):
            target = public / f"{number}-{file.name}"
            homes.write_owned(target, file.read_text(encoding="utf-8"), program.account)
            words += [option, str(target)]
    if first.seal:
        words += ["--seal-with", "-"]
    program.run("init", "--home", str(site.home), *words, given=first.seal)


def migrate(site: Site, program: Program, copy: str, owner_url: str) -> None:
    """Bring the schema up. The copy of the home is the backup that the record names."""
    with homes.reachable(site):
        backup = site.backups / copy / "files" / _SQLITE
        words = ["--backup", str(backup), *(["--owner-url", owner_url] if owner_url else [])]
        program.run("db", "upgrade", "--home", str(site.home), *words)


def restore_database(site: Site, program: Program, plan: Plan) -> None:
    """Put the record back as it was before the release that is left; the log stays closed behind it."""
    copy = site.backups / plan.source / "files" / _SQLITE
    with homes.reachable(site):
        program.run("db", "restore", str(copy), "--home", str(site.home))


def _size(head: str) -> int:
    lines = head.splitlines()
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0
