"""Carries an installation out, step by step; each step can be done again. `steps` says what follows what.

    with journal.locked(site):
        machine.settle()            # what somebody else left half done is undone
        machine.install(staged)     # or rollback()

Owner of everything below /opt/appliance and /var/lib/appliance but the home, while it holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.bundle import layout, manifest, shellview
from appliance.bundle.install import (
    beginnings,
    failures,
    homes,
    journal,
    owed,
    probation,
    release,
    releases,
    smoke,
    steps,
)
from appliance.bundle.install.checks import Checks
from appliance.bundle.install.journal import Line, Plan
from appliance.bundle.install.owed import Event
from appliance.bundle.install.programs import Account, Program
from appliance.bundle.install.service import Service
from appliance.bundle.install.steps import State, Undo, What
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.trusted import Verified
from appliance.clock import Clock, SystemClock
from appliance.errors import ApplianceError

_MAX_MESSAGE: Final = 1000
_Why = tuple[str, int, str]  # code, exit code, message


@dataclass(frozen=True, slots=True)
class Options:
    """What whoever installs chose."""

    terms: probation.Terms = field(default_factory=probation.Terms)
    first: beginnings.First = field(default_factory=beginnings.First)
    owner_url: str = ""  # of a server's schema
    allow_downgrade: bool = False
    restore_backup: bool = False  # rollback across a schema
    who: str = ""
    unlock: str = field(default="", repr=False)  # what opens a sealed home


@dataclass(slots=True)
class Told:
    """Where news goes. Each does nothing by itself."""

    step: Callable[[State, str], None] = lambda _state, _word: None
    looks: Callable[[int, int], None] = lambda _done, _total: None
    # Between two steps, with the line already durable; tests end the process here.
    after: Callable[[State], None] = lambda _state: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `waiting`: entries that the log could not take yet."""

    plan: Plan
    state: State
    reason: str = ""
    message: str = ""
    waiting: int = 0
    found: dict[str, Any] = field(default_factory=dict)


class Machine:
    """One host's installer."""

    def __init__(
        self,
        site: Site,
        service: Service,
        checks: Checks,
        options: Options | None = None,
        *,
        clock: Clock | None = None,
        told: Told | None = None,
    ) -> None:
        self._site = site
        self._service = service
        self._checks = checks
        self._options = options or Options()
        self._clock = clock or SystemClock()
        self._told = told or Told()
        self._account: Account | None = homes.account_of(site)
        self._verified: Verified | None = None
        self._found: dict[str, Any] = {}

    # --- what can be asked ---------------------------------------------------------------------------------

    def install(self, staged: Path) -> Outcome:
        """Install or upgrade to the bundle that was staged. BundleRefused says what it ended with."""
        about = manifest.parse(shellview.small(staged, layout.MANIFEST, layout.MAX_MANIFEST_BYTES))
        here = releases.current(self._site)
        plan = Plan(
            what=What.UPGRADE if here else What.INSTALL,
            serial=about.serial,
            release=about.release,
            folder=self._site.release(about.serial, about.release).name,
            previous=here.name if here else "",
            previous_serial=here.about.serial if here else 0,
            staged=staged.name if staged.parent == self._site.staging else "",
        )
        if here and here.name == plan.folder:
            return Outcome(plan, State.COMMITTED, reason="already_installed")
        return self._run(plan, about, staged)

    def rollback(self) -> Outcome:
        """Re-activate the release that was kept."""
        here, kept = releases.current(self._site), releases.previous(self._site)
        if here is None or kept is None or not kept.is_complete:
            raise BundleRefused(
                Exit.MISSING, "no earlier release is kept on this host", hint="appliance bundle list"
            )
        plan = Plan(
            what=What.ROLLBACK,
            serial=kept.about.serial,
            release=kept.about.release,
            folder=kept.name,
            previous=here.name,
            previous_serial=here.about.serial,
            source=last.copy if (last := releases.committed(self._site)) is not None else "",
        )
        return self._run(plan, kept.about, None)

    def settle(self) -> Outcome | None:
        """End what a crash left: undone where it was not committed, tidied where it was. None: nothing to
        undo.
        """
        lines = journal.read(self._site.journal)
        if not lines:
            return None
        last = lines[-1]
        if last.state is State.COMMITTED:
            self._tidy(last.run, last.plan)
        if not steps.is_undone(last.state):
            return None
        why = BundleRefused(Exit.UNHEALTHY, "the installer was interrupted")
        rolling = [each for each in lines if each.run == last.run and each.state is State.ROLLING_BACK]
        reason, code = (rolling[-1].reason, rolling[-1].exit) if rolling else ("interrupted", int(why.exit))
        message = rolling[-1].message if rolling else why.message
        done = [each for each in lines if each.run == last.run and each.state is not State.ROLLING_BACK]
        return self._undo(last.run, last.plan, done[-1].state if done else None, (reason, code, message))

    # --- one run -------------------------------------------------------------------------------------------

    def _run(self, plan: Plan, about: Manifest, staged: Path | None) -> Outcome:
        run, done = journal.new_run(), None
        if (
            plan.previous
        ):  # a name of its own: what an earlier attempt left aside is not mixed with this one's
            plan = msgspec.structs.replace(plan, copy=f"{plan.serial}-{run[:8]}")
        work: dict[State, Callable[[Plan], Plan]] = {
            State.STAGED: lambda plan: plan,
            State.VERIFIED: lambda plan: self._verify(plan, staged),
            State.PREFLIGHTED: lambda plan: self._preflight(plan, about, staged),
            State.VENV_BUILT: lambda plan: self._build(plan, about, staged),
            State.SMOKE: self._smoke,
            State.QUIESCED: self._quiesce,
            State.DB_BACKED_UP: self._back_up,
            State.MIGRATED: lambda plan: self._migrate(plan, about),
            State.SWITCHED: self._switch,
            State.PROBATION: self._watch,
            State.COMMITTED: lambda plan: plan,
        }
        state: State | None = steps.first(plan.what)
        while state is not None:
            try:
                self._told.step(state, "")
                plan = work[state](plan)
                self._write(run, state, plan)
            except (Exception, KeyboardInterrupt) as error:  # a bug of ours must end like any other failure
                refused = failures.refusal(error, state)
                self._undo(run, plan, done, (refused.code, int(refused.exit), refused.message))
                raise refused from error
            done = state
            state = steps.following(plan.what, state) if state is not State.COMMITTED else None
        try:
            waiting = self._tidy(run, plan)
        except (ApplianceError, OSError) as error:  # committed is committed: `settle` makes up for it
            return Outcome(plan, State.COMMITTED, reason="untidied", message=str(error), found=self._found)
        return Outcome(plan, State.TIDIED, waiting=waiting, found=self._found)

    def _verify(self, plan: Plan, staged: Path | None) -> Plan:
        if staged is None:
            return plan
        self._verified = self._checks.verify(
            staged, self._site, allow_downgrade=self._options.allow_downgrade
        )
        plan = msgspec.structs.replace(
            plan, sums_sha256=self._verified.sums_sha256, key_ids=tuple(self._verified.key_ids)
        )
        key_ids, num_files = " ".join(plan.key_ids), self._verified.num_files
        self._owe(Event.VERIFIED, plan, {"key_ids": key_ids, "num_files": num_files}, "")
        if plan.previous:
            owed.settle(self._site, self._program(self._site.current))
        return plan

    def _preflight(self, plan: Plan, about: Manifest, staged: Path | None) -> Plan:
        here = releases.current(self._site)
        beginnings.check_order(plan, about, here, allow_downgrade=self._options.allow_downgrade)
        self._checks.preflight(about, self._site, staged)
        if self._verified is not None:
            # Not before everything that can refuse has been asked: what is believed is never forgotten.
            self._checks.accept(self._site, self._verified)
        if here is None:
            self._account = beginnings.prepare(self._site)
            return plan
        homes.make_places(self._site, self._account)
        schema = self._program(here.folder).ask("db", "status", "--home", str(self._site.home))
        changes = schema["revision"] != about.db.alembic_head
        if changes:
            beginnings.check_schema(
                self._site, plan, schema, self._account, restore_backup=self._options.restore_backup
            )
            beginnings.check_unlock(self._site, self._account, self._options.unlock)
        return msgspec.structs.replace(plan, restores=changes, schema=str(schema["revision"] or ""))

    def _build(self, plan: Plan, about: Manifest, staged: Path | None) -> Plan:
        if staged is not None:
            self._checks.adopt(self._site, staged, about)
            release.build(
                staged,
                self._site.releases / plan.folder,
                release.find_python(),
                lambda word: self._told.step(State.VENV_BUILT, word),
            )
        return plan

    def _smoke(self, plan: Plan) -> Plan:
        self._found["trial"] = smoke.smoke(self._site, self._program(self._site.releases / plan.folder))
        return plan

    def _quiesce(self, plan: Plan) -> Plan:
        if plan.previous:
            self._service.stop()
        return plan

    def _back_up(self, plan: Plan) -> Plan:
        if plan.previous:
            homes.back_up(self._site, plan.copy, self._account)
        return plan

    def _migrate(self, plan: Plan, about: Manifest) -> Plan:
        folder = self._site.releases / plan.folder
        program = Program(folder, self._account, unlock=self._options.unlock)
        models = [blob.sha256 for blob in about.blobs if blob.model is not None]
        if not plan.previous:
            beginnings.begin(self._site, program, self._options.first)
        homes.link_models(self._site.home, self._site.store, models, self._account)
        if plan.previous and plan.restores:
            if plan.what is What.ROLLBACK:
                beginnings.restore_database(self._site, program, plan)
            else:
                homes.mark_probation(self._site, self._account)
                beginnings.migrate(self._site, program, plan.copy, self._options.owner_url)
        return plan

    def _switch(self, plan: Plan) -> Plan:
        folder = self._site.releases / plan.folder
        self._service.put(folder / layout.APP)
        releases.link(self._site, plan.folder)
        if not self._is_left_closed(plan):
            self._service.start()
        return plan

    def _watch(self, plan: Plan) -> Plan:
        if not self._is_left_closed(plan):
            program = self._program(self._site.current)
            self._found |= probation.watch(self._site, program, self._options.terms, self._told.looks)
        return plan

    def _is_left_closed(self, plan: Plan) -> bool:
        """Whether the log waits for its auditors: an older database, by the operator's own wish."""
        return plan.what is What.ROLLBACK and plan.restores

    # --- and back ------------------------------------------------------------------------------------------

    def _undo(self, run: str, plan: Plan, done: State | None, why: _Why) -> Outcome:
        """Take the host back to where it was. BundleRefused (50) where that fails."""
        reason, _, message = why
        self._write(run, State.ROLLING_BACK, plan, why)
        kept: dict[str, str | int] = {}
        try:
            acts = steps.undoing(plan.what, done, has_previous=bool(plan.previous), restores=plan.restores)
            for each in acts:
                self._told.step(State.ROLLING_BACK, each)
                match each:
                    case Undo.STOP:
                        if self._service.is_active():
                            self._service.stop()
                    case Undo.RESTORE:
                        kept = homes.put_back(self._site, plan.copy, self._account)
                    case Undo.RELINK:
                        self._relink(plan)
                    case Undo.START:
                        self._start_again(plan)
        except (ApplianceError, OSError) as error:
            told = error.message if isinstance(error, ApplianceError) else str(error)
            raise BundleRefused(
                Exit.ROLLBACK_FAILED,
                f"{message}; and going back failed: {told}"[:_MAX_MESSAGE],
                hint="mend what it names, then run: appliance bundle settle",
            ) from error
        if done in {None, State.STAGED, State.VERIFIED} and reason != "interrupted":
            self._owe(Event.REFUSED, plan, {"reason": reason}, message)
        elif acts or reason != "interrupted":
            self._owe(Event.ROLLED_BACK, plan, {"reason": reason, **kept}, message)
        self._write(run, State.ROLLED_BACK, plan, why)
        # Not before the line: until then the copy may have to be put back once more. What failed is kept.
        last = releases.committed(self._site)
        homes.drop_backups(self._site, last.copy if last else "", f"{plan.copy}-failed")
        waiting = owed.settle(self._site, self._program(self._site.current)) if plan.previous else 0
        return Outcome(plan, State.ROLLED_BACK, reason, message, waiting, dict(kept))

    def _relink(self, plan: Plan) -> None:
        releases.link(self._site, plan.previous)
        if plan.previous:
            self._service.put(self._site.releases / plan.previous / layout.APP)
        else:
            self._service.remove()

    def _start_again(self, plan: Plan) -> None:
        homes.clear_probation(self._site, self._account)
        if self._service.is_starting():
            return  # by whoever runs us as a part of it
        self._service.start()
        probation.wait(
            self._site, self._program(self._site.releases / plan.previous), self._options.terms.start_seconds
        )

    # --- behind the commit point ---------------------------------------------------------------------------

    def _tidy(self, run: str, plan: Plan) -> int:
        """What follows from a commit, done again by `settle` until it is through; how many entries the log
        waits for.

        Callers come in first: they were kept out for as long as going back would have lost what they did.
        """
        program = self._program(self._site.current)
        if not self._is_left_closed(plan):
            program.run("bundle", "open", "--home", str(self._site.home))
        self._service.enable()
        self._owe(Event.INSTALLED, plan, {"from_serial": plan.previous_serial}, plan.what)
        if self._verified is not None:
            self._checks.receipt(self._site, self._verified, str(plan.what), self._options.who)
        if plan.copy:
            homes.thin(self._site, plan.copy, self._account)
        homes.drop_backups(self._site, plan.copy)
        releases.drop(self._site, [plan.folder, plan.previous])
        self._checks.collect(self._site, plan.staged)
        self._write(run, State.TIDIED, plan)
        return owed.settle(self._site, program)

    # --- words ---------------------------------------------------------------------------------------------

    def _program(self, folder: Path) -> Program:
        return Program(folder, self._account)

    def _write(self, run: str, state: State, plan: Plan, why: _Why = ("", 0, "")) -> None:
        reason, code, message = why
        line = Line(run, state, self._clock.now_us(), plan, reason, code, message[:_MAX_MESSAGE])
        journal.append(self._site.journal, line)
        self._told.after(state)

    def _owe(self, event: Event, plan: Plan, public: dict[str, str | int], message: str) -> None:
        content = {"who": self._options.who, "what": str(plan.what), "message": message}
        owed.put(self._site, event, {**_named(plan), **public}, content)


def _named(plan: Plan) -> dict[str, str | int]:
    return {"serial": plan.serial, "release": plan.release, "sums_sha256": plan.sums_sha256}
