"""What keeps the appliance from serving, or may soon: the words of `/readyz` and of `appliance doctor`.

Each trouble has a code of its own from the closed list below, what is so, and what helps. The functions
that make them are pure; `Readiness` gathers what they look at.

    code                    stops   goes away
    database_locked         yes     after `appliance audit recover`, once the other program has let go
    disk_full               yes     after `appliance audit recover`, once there is room
    disk_blocked            yes     after `appliance audit recover`, once the disk answers
    record_red              yes     after somebody has looked, and `appliance audit recover`
    log_closed              yes     after `appliance audit recover`, once its cause is removed
    disk_low                yes     by itself, with room
    disk_warning            no      by itself, with room
    ballast_missing         no      at the next start, with room
    model_loading           yes     by itself
    model_failed            yes     by itself where the next attempt loads
    gpu_backend_missing     yes     by itself, with what `engine.device` asks for
    gpu_backend_unloadable  yes     the same
    gpu_not_found           yes     the same
    cpu_variant             yes     by itself, with a variant that this processor runs
    gpu_not_used            no      by itself, once a GPU answers
    alias_lost              no      with the model that the alias stands for, or another activation
    model_does_not_fit      yes     with more memory, other settings, or fewer that are pinned
    worker_died, _hung, …   yes     by itself: the worker is started anew
    worker_given_up         yes     with a restart: its sandbox ended it too often
    certificate_over        yes     by itself, with a new certificate or the right time
    certificate_not_taken   no      by itself, with files that fit
    certificate_renew       no      by itself, with a new certificate
    clock_stepped           no      by itself, an hour after the last step; a large one with the next start
    witness_stale           no      by itself, with the next visit
    stopping                yes     with the next start

What is wrong with a model stops the appliance where that is the default one. Another's is told, and stops
nobody who does not ask it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.log import AuditLog
from appliance.audit.pulse import Steps
from appliance.audit.space import Level, Room
from appliance.catalog import Catalog
from appliance.certifying import Certifying, state_of
from appliance.clock import Clock
from appliance.core import ModelSpec
from appliance.engine import devices, fits
from appliance.engine.conduct import GIVEN_UP
from appliance.engine.status import EngineStatus, State
from appliance.fleet import Fleet
from appliance.tls.serving import RENEWAL
from appliance.verification import Last, Verifications
from appliance.witnessing import Visits, Witnessing

STEP_TOLD_US: Final = 3_600_000_000
_RECOVER: Final = "then run: appliance audit recover"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong. `stops`: nothing new is answered until it is mended."""

    code: str
    says: str
    hint: str = ""
    stops: bool = True


STOPPING: Final = Trouble("stopping", "the appliance is being stopped", "wait for its next start")


def closed_log(reason: str) -> Trouble:
    """Why a log closed itself: its reason, as the latch keeps it over restarts, is read here."""
    if "SQLITE_BUSY" in reason or "SQLITE_LOCKED" in reason:
        code, hint = "database_locked", "end the other program that holds appliance.db"
    elif "commit_timeout" in reason or "the disk does not tell" in reason:
        code, hint = "disk_blocked", "see to the home's disk"
    elif any(each in reason for each in ("SQLITE_FULL", "ENOSPC", "EDQUOT")):
        code, hint = "disk_full", "free room in the home's file system"
    elif reason.startswith("verify is red"):
        code, hint = "record_red", "look with appliance audit verify, tell the auditors"
    else:
        code, hint = "log_closed", "remove the cause"
    return Trouble(code, f"the log is closed: {reason}", f"{hint}, {_RECOVER}")


def disk(room: Room) -> list[Trouble]:
    """What the home's disk lacks."""
    free = room.free_bytes >> 20
    if room.level is Level.LOW:
        found = [Trouble("disk_low", f"{free} MiB are free: nothing new is admitted", _FREE)]
    elif room.level is Level.WARNING:
        says = f"the disk is full to {room.used:.0%}, {free} MiB are free"
        found = [Trouble("disk_warning", says, _FREE, stops=False)]
    else:
        found = []
    if not room.has_ballast:
        says = "there is no ballast: a full disk would leave no room for the log's last entries"
        found.append(Trouble("ballast_missing", says, f"{_FREE}, then restart the appliance", stops=False))
    return found


_FREE: Final = "free room in the home's file system"


_NOT_LOADED: Final = frozenset(
    {"load_failed", "spawn_failed", "supervisor_failed", "model_altered", "model_missing"}
)


_ANEW: Final = "it is started anew by itself; where that does not help: appliance doctor, and the log"


def worker(status: EngineStatus) -> Trouble | None:
    """Why a model does not answer."""
    if status.state is State.READY:
        return None
    said = status.last_error.splitlines()[0] if status.last_error else ""
    if status.state is State.FAILED or status.code:
        code = "model_failed" if status.code in _NOT_LOADED else status.code
        hint = fits.HINT if code == fits.DOES_NOT_FIT else devices.HINTS.get(code, _ANEW)
        if code == GIVEN_UP:
            hint = "find out why before you restart the appliance: deploy/guides/host.md, Sandbox"
        return Trouble(code or "worker_died", said or "the worker has ended", hint)
    return Trouble("model_loading", "the model is being loaded", "wait")


def computing(status: EngineStatus) -> Trouble | None:
    """A GPU that was to compute, and does not: the configuration allows that, and nobody shall wonder."""
    ready = status.ready
    if ready is None or not ready.fallback:
        return None
    says = f"the processor computes: {ready.fallback_says}"
    return Trouble("gpu_not_used", says, devices.HINTS.get(ready.fallback, ""), stops=False)


def certificate(state: str, not_after: str, problem: str) -> Trouble | None:
    """`state` as `certifying.state_of` calls it, `not_after` as a person reads it."""
    match state:
        case "over":
            says = f"the certificate's time is over since {not_after}"
            return Trouble("certificate_over", says, RENEWAL)
        case "not_taken":
            says = f"new files of the certificate are not served: {problem}"
            return Trouble("certificate_not_taken", says, "put files there that fit", stops=False)
        case "renew":
            says = f"less than a third of the certificate's time is left, until {not_after}"
            return Trouble("certificate_renew", says, "appliance tls renew", stops=False)
    return None


def clock(steps: Steps, monotonic_us: int) -> Trouble | None:
    """A wall clock that was set while the appliance ran."""
    if steps.at_us is None:
        return None
    if steps.are_doubtful:
        says = (
            f"the clock was set by {steps.sum_us / 1e6:+,.0f} s since the start: "
            "nothing is removed by its age until the next start"
        )
    elif monotonic_us - steps.at_us < STEP_TOLD_US:
        says = f"the clock was set by {steps.last_us / 1e6:+,.0f} s within the last hour"
    else:
        return None
    return Trouble("clock_stepped", says, "check this host's source of time", stops=False)


def record(last: Last | None, *, is_ready: bool) -> Trouble | None:
    """A red record that somebody opened again: it is told for as long as it is red."""
    if last is None or last.is_green or not is_ready:
        return None
    return Trouble(
        "record_red", "the last verification was not green", "run: appliance audit verify", stops=False
    )


def witnesses(visits: Visits) -> Trouble | None:
    """Nobody outside remembers the log's newest entries."""
    if not visits.is_stale:
        return None
    hint = "ask the witness for a visit: appliance audit witness status"
    return Trouble("witness_stale", "no witness has cosigned lately", hint, stops=False)


def lost(catalog: Catalog) -> list[Trouble]:
    """Aliases that no longer mean what somebody activated: never silently."""
    found = []
    for each in catalog.lost:
        instead = catalog.resolve(each.name)
        means = f"means {instead.id} instead" if instead is not None else "means nothing"
        wanted = f"{each.model} with {each.adapter}" if each.adapter else each.model
        says = f"{each.name} stands for {wanted} (sha256 {each.sha256[:16]}), which is not here: it {means}"
        hint = f"import that file again, or: appliance model activate MODEL --alias {each.name}"
        found.append(Trouble("alias_lost", says, hint, stops=False))
    return found


class Readiness:
    """Looks at a running gateway. Changes nothing."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        catalog: Catalog,
        fleet: Fleet,
        certifying: Certifying | None,
        verifications: Verifications,
        witnessing: Witnessing,
        clock: Clock,
    ) -> None:
        self._audit = audit
        self._catalog = catalog
        self._fleet = fleet
        self._certifying = certifying
        self._verifications = verifications
        self._witnessing = witnessing
        self._clock = clock

    async def look(self) -> list[Trouble]:
        """Everything that is wrong, what stops the appliance first."""
        state = await self._audit.checked()
        found = [
            None if state.is_ready else closed_log(state.reason),
            *self._models(),
            *lost(self._catalog),
            next(filter(None, (computing(each.status) for each in self._fleet.engines.values())), None),
            self._served(),
            *disk(self._audit.room),
            clock(self._audit.times.steps, self._clock.monotonic_us()),
            record(self._verifications.last, is_ready=state.is_ready),
            witnesses(self._witnessing.visits()),
        ]
        return sorted((each for each in found if each is not None), key=lambda each: not each.stops)

    async def told(self) -> dict[str, Any]:
        """The same, and what loaded models took, for the program on this host."""
        states = ((name, each.status.ready, each.worker_bytes) for name, each in self._fleet.engines.items())
        return {
            "troubles": [dataclasses.asdict(each) for each in await self.look()],
            "loaded": {name: fits.loaded(ready, held) for name, ready, held in states if ready is not None},
        }

    def _models(self) -> list[Trouble]:
        default = self._catalog.resolve("default")
        if default is None:
            says = "there is no default model"
            return [Trouble("model_failed", says, "see default_model in appliance.toml")]
        found = [self._model(default)]
        for spec in self._fleet.served():
            each = self._model(spec) if spec.id != default.id else None
            if each is not None and each.code != "model_loading":
                found.append(dataclasses.replace(each, says=f"{spec.id}: {each.says}", stops=False))
        return [each for each in found if each is not None]

    def _model(self, spec: ModelSpec) -> Trouble | None:
        engine = self._fleet.engine_of(spec)
        if engine is not None:
            return worker(engine.status)
        standing = self._fleet.standing(spec)
        if standing.state == "too_large":
            hint = f"see engine.memory_mib and engine.pinned in appliance.toml; {fits.HINT}"
            return Trouble(fits.DOES_NOT_FIT, f"it does not fit: {standing.says}", hint)
        if standing.state == "failed":
            return Trouble("model_failed", standing.says, "appliance doctor, and the log")
        return Trouble("model_loading", "the model is being loaded", "wait")

    def _served(self) -> Trouble | None:
        if self._certifying is None:
            return None
        serving = self._certifying.serving
        state = state_of(serving, self._clock.now_us())
        return certificate(state, serving.about.ends_at, serving.problem)
