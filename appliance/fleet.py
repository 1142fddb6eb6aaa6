"""The models in memory: loaded when somebody asks, within a budget, gone when others need the room.

    want ─► Claim ─ waits ──(the model is open)── serve ─► answers ─ drop
                     │
                     └ `_keep` looks at everything, asks `policy.residency.decide`, and loads, holds, evicts

While a claim is served its model stays. Whoever queues questions (`admitting`) gives turns only while
`is_open`, and is told when that may have changed (`Listener`). Each file is hashed again before each load, in
a thread; the record says of every load and every unload why it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from appliance import leasing, standing
from appliance.catalog import Catalog
from appliance.claims import Claim, Claims
from appliance.clock import Clock
from appliance.core import Adapter, ModelSpec
from appliance.engine.conduct import GIVEN_UP
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded, ModelUnloaded
from appliance.engine.fits import DOES_NOT_FIT
from appliance.engine.messages import Ready
from appliance.engine.supervisor import Engine
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import ApplianceError
from appliance.loaded import Hands, Listener, Loaded
from appliance.log import get_logger
from appliance.policy import residency
from appliance.policy.residency import Resident, Rules, TooLarge, Wanted, Why
from appliance.standing import Failures, Standing

log = get_logger(__name__)


class Fleet:
    """Owner of everything here: the event loop's thread."""

    def __init__(
        self, *, catalog: Catalog, settings: EngineSettings, budget_bytes: int, clock: Clock, hands: Hands
    ) -> None:
        self.rules = Rules(
            budget_bytes, settings.turn_seconds * 1_000_000, settings.idle_minutes * 60_000_000
        )
        self._catalog = catalog
        self._clock = clock
        self._hands = hands
        self._listener: Listener | None = None
        self._loaded: dict[str, Loaded] = {}
        self._claims = Claims()
        self._failures = Failures(settings.restart_backoff_max_seconds)
        self._too_large: dict[str, TooLarge] = {}
        self._needs: dict[str, int] = {}  # bytes, by the digest of a model
        self._told: dict[str, Ready] = {}  # by digest
        self._verified: set[str] = set()  # digests of files that were hashed just now
        self._why: dict[str, Why] = {}  # of pinned models that are to be loaded
        self._stirred = asyncio.Event()
        self.changed = asyncio.Event()  # set when a model is ready, fails or goes, and replaced
        self._keeper: asyncio.Task[None] | None = None
        self._unloading: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Of the models that have a worker, or are getting one."""
        return {model_id: each.engine for model_id, each in self._loaded.items()}

    @property
    def used_bytes(self) -> int:
        """Of the budget."""
        return sum(each.num_bytes for each in self._loaded.values())

    def engine_of(self, spec: ModelSpec) -> Engine | None:
        """The engine of a model that is loaded, or being loaded."""
        loaded = self._loaded.get(spec.id)
        return loaded.engine if loaded is not None else None

    def told(self, spec: ModelSpec) -> Ready | None:
        """What the model's last worker said when it was ready; None where there was none since the start."""
        return self._told.get(spec.sha256)

    def is_known(self, spec: ModelSpec) -> bool:
        """It can be asked: it is loaded, or its file lies in the store."""
        return spec.id in self._loaded or spec.path.exists()

    def served(self) -> list[ModelSpec]:
        """What can be asked, loaded or not, in the catalogue's order."""
        return [spec for spec in self._catalog.list() if self.is_known(spec)]

    def is_open(self, model_id: str) -> bool:
        """It begins answers: its worker is ready, and it does not have to make room."""
        loaded = self._loaded.get(model_id)
        return loaded is not None and loaded.is_open

    def bytes_of(self, spec: ModelSpec) -> int | None:
        """What it holds, or is reckoned to need; None before anybody wanted it."""
        loaded = self._loaded.get(spec.id)
        return loaded.num_bytes if loaded is not None else self._needs.get(spec.sha256)

    def is_pinned(self, spec: ModelSpec) -> bool:
        """It is loaded at the start, and stays."""
        return any(each.id == spec.id for each in self._hands.pinned())

    def standing(self, spec: ModelSpec) -> Standing:
        """How it is now."""
        loaded = self._loaded.get(spec.id)
        retry_seconds = self._failures.left_seconds(spec.id, self._now_us())
        if loaded is not None:
            return loaded.standing(retry_seconds)
        if spec.id in self._too_large:
            return standing.of_too_large(self._too_large[spec.id])
        if not self._failures.is_over(spec.id, self._now_us()):
            return Standing("failed", "it could not be loaded", retry_seconds)
        return Standing("unloaded")

    def listen(self, listener: Listener) -> None:
        """The one who queues questions."""
        self._listener = listener

    def want(self, spec: ModelSpec) -> Claim:
        """Somebody waits for this model: where it is not loaded, it is when its turn comes."""
        claim = Claim(spec, self._now_us())
        self._claims.add(claim)
        self._compare(spec.id)
        self._stirred.set()
        return claim

    def serve(self, claim: Claim) -> None:
        """From here on the model answers: it stays until `drop`."""
        claim.is_served = True

    def drop(self, claim: Claim) -> None:
        """It waits or answers no longer. Once is enough; again changes nothing."""
        if not self._claims.remove(claim):
            return
        loaded = self._loaded.get(claim.spec.id)
        if loaded is not None and claim.is_served:
            loaded.used_us = self._now_us()
        self._stirred.set()

    def lease(self, spec: ModelSpec, *, seconds: float) -> AbstractAsyncContextManager[Engine]:
        """The model's engine, ready; it stays loaded until this is left. Errors as in `leasing`."""
        return leasing.leased(self, spec, seconds)

    def start(self, *, verified: ModelSpec | None = None) -> None:
        """Begin: pinned models are loaded. `verified`: the caller has hashed this one's file just now."""
        if verified is not None:
            self._verified.add(verified.sha256)
        self._why = {each.id: Why.START for each in self._hands.pinned()}
        self._keeper = asyncio.create_task(self._keep(), name="fleet")

    def review(self) -> None:
        """Names mean other models than before: what came to be pinned is loaded, others may go."""
        self._too_large.clear()
        for each in self._hands.pinned():
            self._why.setdefault(each.id, Why.ACTIVATION)
            if each.id not in self._loaded:
                self._failures.forget(each.id)
        for model_id in self._loaded:
            self._compare(model_id)
        self._stirred.set()

    async def has_room(self, spec: ModelSpec, *, beside: ModelSpec | None) -> bool:
        """Whether memory holds this model while `beside` still answers, whatever else has to go.

        RequestError `bad_model` where its file's header can not be believed.
        """
        if (loaded := self._loaded.get(spec.id)) is not None:
            return spec.adapter is None or spec.adapter in loaded.adapters
        if spec.sha256 not in self._needs:
            self._needs[spec.sha256] = await asyncio.to_thread(self._hands.needed_by, spec)
        stays = beside.id if beside is not None else ""
        room = residency.room_for(self.rules, self._residents(), spec.id, beside=stays)
        return self._needs[spec.sha256] <= room

    async def stop(self) -> None:
        """End every worker; what still runs fails with `engine_failed`."""
        self._is_stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await asyncio.gather(*self._unloading)
        await asyncio.gather(*(self._unload(each, Why.STOP) for each in list(self._loaded)))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._stirred.clear()
            try:
                again_us = await self._once()
            except Exception as error:  # a bug of ours must not leave every model as it is for ever
                log.exception("fleet_crashed", error=type(error).__name__)
                again_us = self._now_us() + 1_000_000
            seconds = None if again_us is None else max(0.0, (again_us - self._now_us()) / 1e6) + 0.001
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()

    async def _once(self) -> int | None:
        """Look, decide, act; when time alone may change something."""
        for spec in self._wanted_specs().values():
            if spec.sha256 not in self._needs:
                await self._reckon(spec)
        for model_id, loaded in self._loaded.items():
            self._compare(model_id)
            if loaded.is_outdated and not loaded.is_leaving and not self._claims.num_leases(model_id):
                self._why[model_id] = Why.ACTIVATION
                self._begin_unload(model_id, Why.ACTIVATION)
        wanted = self._wanted_specs()
        decided = residency.decide(self.rules, self._residents(), self._wanted(wanted), self._now_us())
        for model_id, loaded in self._loaded.items():
            is_held = model_id in decided.hold
            if is_held != loaded.is_held:
                loaded.is_held = is_held
                self._tell(model_id)
        for model_id, why in decided.evict:
            self._begin_unload(model_id, why)
        for each in decided.refuse:
            self._refuse(wanted[each.id], each)
        for model_id in decided.load:
            await self._load(wanted[model_id])
        times = (decided.again_us, self._failures.next_us(self._now_us()))
        return min((each for each in times if each is not None), default=None)

    async def _reckon(self, spec: ModelSpec) -> None:
        try:
            self._needs[spec.sha256] = await asyncio.to_thread(self._hands.needed_by, spec)
        except ApplianceError as error:
            log.error("model_not_believed", model=spec.id, code=error.code)
            self._hands.on_event(ModelFailed(spec, error.code))
            self._give_back(spec)

    async def _load(self, spec: ModelSpec) -> None:
        now_us = self._now_us()
        laid = self._catalog.adapters_of(spec.id)
        # One that no name has yet: an activation asks for it first.
        asked = next((each for each in self._claims.adapters(spec.id) if each not in laid), None)
        spec = dataclasses.replace(spec, adapter=asked)
        engine = self._hands.make(
            spec,
            on_event=self._hear,
            prepare=lambda: self._hash(spec),
            adapters=lambda: self._adapters_for(spec),
        )
        why = self._why.pop(spec.id, Why.DEMAND)
        self._loaded[spec.id] = Loaded(engine, self._needs[spec.sha256], why, now_us, now_us)
        await engine.start()
        self._tell(spec.id)

    def _adapters_for(self, spec: ModelSpec) -> tuple[Adapter, ...]:
        """What names lay over a model by now, for its next worker."""
        laid = self._catalog.adapters_of(spec.id)
        own = (spec.adapter,) if spec.adapter is not None else ()
        self._loaded[spec.id].adapters = frozenset((*laid, *own))
        return laid

    def _compare(self, model_id: str) -> None:
        """A worker that was not given an adapter which is asked for makes place for one that is."""
        loaded = self._loaded.get(model_id)
        if loaded is None or not (loaded.engine.is_ready or loaded.is_outdated):
            return
        asked = {*self._catalog.adapters_of(model_id), *self._claims.adapters(model_id)}
        is_outdated = bool(asked - loaded.adapters)
        if is_outdated != loaded.is_outdated:
            loaded.is_outdated = is_outdated
            self._tell(model_id)

    async def _hash(self, spec: ModelSpec) -> None:
        """The file is what its pin says, or an error says what it is."""
        loaded = self._loaded[spec.id]
        if spec.sha256 in self._verified:
            self._verified.discard(spec.sha256)
            return

        def progress(done: int, total: int) -> None:
            loaded.checked = done / max(1, total)

        began_us = self._now_us()
        try:
            await asyncio.to_thread(self._hands.verify, spec, progress)
        finally:
            loaded.checked = None
            loaded.verify_us = self._now_us() - began_us

    def _begin_unload(self, model_id: str, why: Why) -> None:
        self._loaded[model_id].is_leaving = True
        task = asyncio.create_task(self._unload(model_id, why), name=f"unload {model_id}")
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unload(self, model_id: str, why: Why) -> None:
        loaded = self._loaded[model_id]
        loaded.is_leaving, loaded.why = True, why
        await loaded.engine.stop()
        del self._loaded[model_id]
        log.info("model_unloaded", model=model_id, why=str(why))
        self._tell(model_id)

    def _hear(self, event: EngineEvent) -> None:
        """What an engine says of its worker, on its way to the record."""
        loaded = self._loaded[event.model.id]
        match event:
            case ModelLoaded():
                event = self._ready(event, loaded)
            case ModelFailed():
                self._failed(event, loaded)
            case ModelUnloaded():
                event = dataclasses.replace(event, why=str(loaded.why))
        self._hands.on_event(event)
        self._tell(event.model.id)

    def _ready(self, event: ModelLoaded, loaded: Loaded) -> ModelLoaded:
        why = Why.RESTART if loaded.engine.status.restarts else loaded.why
        # A worker comes to hold more than at first: pages of weights and cells count once they are used.
        loaded.num_bytes = max(loaded.num_bytes, event.ready.resident_bytes)
        loaded.ready_us = loaded.used_us = self._now_us()
        self._told[event.model.sha256] = event.ready
        self._failures.forget(event.model.id)
        return dataclasses.replace(event, why=str(why), verify_us=loaded.verify_us)

    def _failed(self, event: ModelFailed, loaded: Loaded) -> None:
        """A pinned model's engine tries again by itself; another one's next question does, after a while."""
        model_id, now_us = event.model.id, self._now_us()
        was_ready, loaded.ready_us, loaded.began_us = loaded.ready_us is not None, None, now_us
        if self._is_stopping or was_ready:
            return  # it had answered: whoever waits may wait for its next worker
        if event.code == GIVEN_UP:
            self._failures.give_up(model_id, now_us)
        elif not self.is_pinned(event.model):
            self._begin_unload(model_id, Why.FAILED)
        self._give_back(event.model)

    def _give_back(self, spec: ModelSpec) -> None:
        """It can not be had for a while: nobody waits for it."""
        now_us = self._now_us()
        self._failures.note(spec.id, now_us)
        retry_seconds = self._failures.left_seconds(spec.id, now_us)
        self._refuse_waiting(spec, Standing("failed", "", retry_seconds))
        self._tell(spec.id)

    def _refuse(self, spec: ModelSpec, found: TooLarge) -> None:
        """It does not fit: whoever waits for it hears so, and whoever asks later, too."""
        log.error("model_does_not_fit", model=spec.id, needed=found.num_bytes, room=found.room_bytes)
        self._hands.on_event(ModelFailed(spec, DOES_NOT_FIT))
        self._too_large[spec.id] = found
        self._refuse_waiting(spec, self.standing(spec))
        self._tell(spec.id)

    def _refuse_waiting(self, spec: ModelSpec, found: Standing) -> None:
        if self._listener is not None:
            self._listener.failed(spec.id, standing.refusal(spec, found))

    def _residents(self) -> list[Resident]:
        pinned = {each.id for each in self._hands.pinned()}
        return [
            each.resident(
                is_pinned=model_id in pinned,
                num_leases=self._claims.num_leases(model_id),
                num_waiting=self._claims.num_waiting(model_id),
            )
            for model_id, each in self._loaded.items()
        ]

    def _wanted_specs(self) -> dict[str, ModelSpec]:
        """Models that are to be loaded and are not: pinned ones, and those that somebody waits for."""
        now_us = self._now_us()
        return {
            spec.id: self._catalog.find(spec.id) or spec
            for spec in (*self._hands.pinned(), *self._claims.specs())
            if spec.id not in self._loaded
            and spec.id not in self._too_large
            and self._failures.is_over(spec.id, now_us)
        }

    def _wanted(self, specs: Mapping[str, ModelSpec]) -> list[Wanted]:
        """In the order of pins, then of whoever waits longest."""
        pins = {each.id: place for place, each in enumerate(self._hands.pinned())}
        found = []
        for spec in specs.values():
            since_us = pins[spec.id] if spec.id in pins else self._claims.since_us(spec.id)
            if since_us is not None and spec.sha256 in self._needs:
                found.append(Wanted(spec.id, self._needs[spec.sha256], since_us))
        return found

    def _tell(self, model_id: str) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
        self._stirred.set()
        if self._listener is not None:
            self._listener.changed(model_id)

    def _now_us(self) -> int:
        return self._clock.monotonic_us()
