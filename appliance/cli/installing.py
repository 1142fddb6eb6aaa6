"""`appliance bundle install | upgrade | rollback | repair | uninstall | list | settle`: root's commands on a
host.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.bundle.install import beginnings, checks, journal, probation, releases, removal
from appliance.bundle.install import service as services
from appliance.bundle.install.machine import Machine, Options, Outcome, Told
from appliance.bundle.install.steps import State
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.cli import unlocking
from appliance.cli.base import FILE, command_gateway, home_option, json_option, show, warn, when
from appliance.cli.progress import Progress
from appliance.cli.site import FOLDER, site_option, who
from appliance.clock import SystemClock
from appliance.commands import OpenDoors, RecordBundle
from appliance.config import Home
from appliance.errors import RequestError, SetupError

_F = TypeVar("_F", bound=Callable[..., Any])
_INIT_WORDS = ("profile", "reading", "crypto", "owner_url")
_INIT_FILES = ("auditor", "recovery", "privacy")
_WORDS = {
    State.STAGED: "staged",
    State.VERIFIED: "verifying every byte",
    State.PREFLIGHTED: "looking at this host",
    State.VENV_BUILT: "building the release",
    State.SMOKE: "trying it beside what serves",
    State.QUIESCED: "stopping what serves",
    State.DB_BACKED_UP: "copying the home",
    State.MIGRATED: "preparing the home",
    State.SWITCHED: "switching and starting",
    State.PROBATION: "on probation",
    State.COMMITTED: "committing",
    State.ROLLING_BACK: "going back",
}


def _probation_options(function: _F) -> _F:
    for option in (
        click.option(
            "--probation-seconds",
            type=click.IntRange(0, 86_400),
            default=120,
            show_default=True,
            help="How long the new release is watched before it is committed.",
        ),
        click.option("--probation-looks", type=click.IntRange(1, 1000), default=12, show_default=True,
                     help="How often it is looked at in that time; three in four must be good."),
        click.option("--start-seconds", type=click.IntRange(1, 86_400), default=600, hidden=True),
    ):  # fmt: skip
        function = option(function)
    return function


_unlock_option = click.option(
    "--unlock",
    metavar="FILE",
    help="Of a sealed home: its passphrase or credential (-: standard input), for a schema that changes.",
)


@click.command()
@click.option("--staged", required=True, type=FOLDER, metavar="DIR",
              help="The copy on this host's disk: appliance bundle import.")  # fmt: skip
@click.option("--fingerprint", multiple=True,
              help="First installation: of a signer, from paper (twice at least).")  # fmt: skip
@click.option("--config", "config_file", type=FILE, help="First installation: the home's appliance.toml.")
@click.option("--profile", type=click.Choice(["dev", "production"]), help="First installation: as in init.")
@click.option("--reading", help="First installation: as in init.")
@click.option("--crypto", type=click.Choice(["standard", "fips"]), help="First installation: as in init.")
@click.option("--owner-url", default="", metavar="URL", help="A record on PostgreSQL: as in init.")
@click.option("--auditor", multiple=True, type=FILE, help="First installation: as in init (repeatable).")
@click.option("--recovery", multiple=True, type=FILE, help="First installation: as in init (repeatable).")
@click.option("--privacy", multiple=True, type=FILE, help="First installation: as in init (repeatable).")
@click.option("--seal-with", metavar="FILE", help="First installation: as in init.")
@_unlock_option
@_probation_options
@site_option
@json_option
def install(
    staged: Path,
    fingerprint: tuple[str, ...],
    config_file: Path | None,
    site: Site,
    *,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Install a verified bundle on a bare host; on one that has a release, upgrade it.

    \b
    Example: appliance bundle install --staged /var/lib/appliance/staging/37
    """
    words = [
        word for name in _INIT_WORDS if chosen[name] for word in (f"--{name.replace('_', '-')}", chosen[name])
    ]
    files = tuple((f"--{name}", file) for name in _INIT_FILES for file in chosen[name])
    first = beginnings.First(
        words=tuple(words), files=files, config=config_file, seal=unlocking.secret_in(chosen["seal_with"])
    )
    options = Options(
        terms=_terms(chosen), first=first, who=who(), unlock=unlocking.secret_in(chosen["unlock"])
    )
    with _machine(site, options, fingerprints=fingerprint) as installer:
        _tell(installer.install(staged.resolve()), as_json=as_json)


@click.command()
@click.option("--staged", required=True, type=FOLDER, metavar="DIR",
              help="The copy on this host's disk: appliance bundle import.")  # fmt: skip
@click.option("--allow-downgrade", is_flag=True, help="Take a bundle that is older than what was installed.")
@_unlock_option
@_probation_options
@site_option
@json_option
def upgrade(staged: Path, site: Site, *, allow_downgrade: bool, as_json: bool, **chosen: Any) -> None:
    """Verify a staged bundle, try it, switch to it, watch it; whatever fails ends with what served before.

    \b
    Example: appliance bundle upgrade --staged /var/lib/appliance/staging/38
    """
    if releases.current(site) is None:
        raise RequestError(
            "no release is installed here", code="not_installed", hint="appliance bundle install"
        )
    options = Options(
        terms=_terms(chosen),
        allow_downgrade=allow_downgrade,
        who=who(),
        unlock=unlocking.secret_in(chosen["unlock"]),
    )
    with _machine(site, options) as installer:
        _tell(installer.install(staged.resolve()), as_json=as_json)


@click.command()
@click.option("--restore-backup", is_flag=True,
              help="Where the kept release does not read today's schema: put the record "
                   "of before the upgrade back. The log stays closed until its auditors agree.")  # fmt: skip
@_unlock_option
@_probation_options
@site_option
@json_option
def rollback(site: Site, *, restore_backup: bool, as_json: bool, **chosen: Any) -> None:
    """Go back to the release that was kept. It was verified once and needs no medium.

    \b
    Example: appliance bundle rollback
    """
    options = Options(
        terms=_terms(chosen),
        restore_backup=restore_backup,
        who=who(),
        unlock=unlocking.secret_in(chosen["unlock"]),
    )
    with _machine(site, options) as installer:
        outcome = installer.rollback()
        _tell(outcome, as_json=as_json)
    if outcome.plan.restores:
        warn("the log is older than its head file remembers and stays closed: deploy/guides/backup.md")
        sys.exit(int(Exit.DONE_RESTART))


@click.command(name="repair")
@click.option("--force", is_flag=True, help="Also where the environment looks whole.")
@site_option
@json_option
def repair_(site: Site, *, force: bool, as_json: bool) -> None:
    """Build the release's environment again, off line: the operating system brought another Python.

    \b
    Example: appliance bundle repair
    """
    with journal.locked(site):
        result = removal.mend(site, services.of(site.root), force=force, who=who())
    lines = [f"{each['release']}: {each['said']}" for each in result["releases"]]
    show(result, lines, as_json=as_json)


@click.command()
@click.option("--purge", is_flag=True, help="Data as well: the home with its record and keys, store, trust.")
@click.confirmation_option(prompt="Take the appliance off this host?")
@site_option
@json_option
def uninstall(site: Site, *, purge: bool, as_json: bool) -> None:
    """Stop it, and remove units, releases and the account; data only with --purge. Tells what remains.

    \b
    Example: appliance bundle uninstall --yes
    """
    with journal.locked(site):
        result = removal.uninstall(site, services.of(site.root), purge=purge, who=who())
    lines = [f"removed: {each}" for each in result["removed"]]
    lines += [f"remains: {each}" for each in result["remains"]]
    show(result, lines, as_json=as_json)


@click.command(name="list")
@site_option
@json_option
def list_(site: Site, *, as_json: bool) -> None:
    """Show the releases on this host, and how the last runs of the installer ended.

    \b
    Example: appliance bundle list
    """
    here, kept = releases.current(site), releases.previous(site)
    found = [
        {
            "serial": each.about.serial,
            "release": each.about.release,
            "state": "serves" if here and each.name == here.name
            else "kept" if kept and each.name == kept.name
            else "left over" if each.is_complete else "unfinished",
            "runnable": each.is_runnable,
        }
        for each in releases.every(site)
    ]  # fmt: skip
    last = {line.run: line for line in journal.read(site.journal)}
    runs = [
        {
            "at": when(line.at_us),
            "what": str(line.plan.what),
            "serial": line.plan.serial,
            "state": str(line.state),
            "reason": line.reason,
            "message": line.message,
        }
        for line in list(last.values())[-5:]
    ]
    lines = [
        f"{each['serial']:>6}  {each['release']:<12} {each['state']}"
        + ("" if each["runnable"] else ": its Python is gone, run: appliance bundle repair")
        for each in found
    ]
    lines += [
        f"{each['at']}  {each['what']} of {each['serial']}: {each['state']} {each['reason']}".rstrip()
        for each in runs
    ]
    show({"releases": found, "runs": runs}, lines or ["no release"], as_json=as_json)


@click.command()
@site_option
@json_option
def settle(site: Site, *, as_json: bool) -> None:
    """End what an interrupted installation left: undone where it was not committed. The service's start runs
    it.

    \b
    Example: appliance bundle settle
    """
    try:
        with _machine(site, Options(who=who()), settles=False) as installer:
            outcome = installer.settle()
    except BundleRefused as refused:
        if refused.exit is not Exit.BUSY:
            raise
        # An installer is at work, and starts the service itself.
        show({"settled": False}, [], as_json=as_json)
        return
    if outcome is None:
        show({"settled": False}, ["nothing to settle"], as_json=as_json)
        return
    show(_told(outcome) | {"settled": True}, [f"went back: {outcome.message}"], as_json=as_json)


@click.command(hidden=True)
@home_option
@json_option
def tell(home: Home, *, as_json: bool) -> None:
    """Put an entry about a bundle on the record; the installer runs it as the service's user.

    \b
    Example: appliance bundle tell < entry.json
    """
    result = command_gateway(home, removal.entry(sys.stdin.read(), RecordBundle))
    show(result, [str(result["record"])], as_json=as_json)


@click.command(name="open", hidden=True)
@home_option
@json_option
def open_(home: Home, *, as_json: bool) -> None:
    """Let callers in behind a committed upgrade; the installer runs it as the service's user.

    \b
    Example: appliance bundle open
    """
    result = command_gateway(home, OpenDoors())
    show(result, ["callers come in"], as_json=as_json)


COMMANDS = (install, upgrade, rollback, repair_, uninstall, list_, settle, tell, open_)


def _terms(chosen: dict[str, Any]) -> probation.Terms:
    return probation.Terms(
        seconds=chosen["probation_seconds"],
        looks=chosen["probation_looks"],
        start_seconds=chosen["start_seconds"],
    )


@contextmanager
def _machine(
    site: Site, options: Options, *, settles: bool = True, fingerprints: Sequence[str] = ()
) -> Iterator[Machine]:
    """The installer, alone on this host; what somebody else left half done is ended first."""
    if site.root == Path("/") and os.geteuid() != 0:
        raise SetupError("only root installs", code="not_root", hint="sudo appliance bundle …")
    os.umask(0o022)
    bar = _Bar()
    told = Told(step=bar.step, looks=bar.looks)
    with journal.locked(site):
        known = checks.standard(
            SystemClock(), fingerprints=fingerprints, progress=Progress(of_bytes=True).update
        )
        installer = Machine(site, services.of(site.root), known, options, told=told)
        if settles and (left := installer.settle()) is not None:
            warn(f"an earlier run was undone first: {left.message}")
        yield installer


class _Bar:
    """One line per step on standard error, with its number, for people."""

    def step(self, state: State, word: str) -> None:
        steps = list(_WORDS)
        number = (
            f"{steps.index(state) + 1:>2}/{len(steps) - 1}" if state is not State.ROLLING_BACK else " !  "
        )
        click.echo(f"[{number}] {_WORDS[state]}{': ' if word else ''}{word}", err=True)

    def looks(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            width = 30
            bar = "#" * (done * width // total)
            click.echo(f"\r        [{bar:-<{width}}] look {done} of {total}", err=True, nl=done == total)


def _told(outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "what": str(plan.what),
        "serial": plan.serial,
        "release": plan.release,
        "from_serial": plan.previous_serial,
        "state": str(outcome.state),
        "reason": outcome.reason,
        "entries_waiting": outcome.waiting,
        **outcome.found,
    }


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    plan = outcome.plan
    lines = [f"{plan.what}: {plan.serial} ({plan.release}) serves"]
    if outcome.reason == "already_installed":
        lines = [f"{plan.serial} ({plan.release}) is installed already"]
    if plan.previous and not outcome.reason:
        lines.append(f"{plan.previous} is kept: appliance bundle rollback")
    if outcome.reason == "untidied":
        warn(f"committed, but not tidied: {outcome.message}; run: appliance bundle settle")
    if outcome.waiting:
        lines.append(f"{outcome.waiting} entries wait until the log takes them")
    show(_told(outcome), lines, as_json=as_json)
    if outcome.reason == "untidied":
        sys.exit(int(Exit.DONE_RESTART))
