"""`Engine`: one model, one worker, as the gateway sees them.

    STOPPED ─start─► STARTING ─Ready─► READY ─stop─► DRAINING ─► STOPPED
                        │  ▲             │
              LoadFailed│  └─ back-off ──┤ worker died
              or exit   ▼                ▼
                      FAILED ◄───────────┘

One task (`_live`) owns the state; everybody else reads it or sends. A worker's death fails its own
requests at once with `engine_failed`, is told as an event, and is repaired with back-off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

from appliance.clock import Clock
from appliance.core import (
    Adapter,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    Setup,
    Started,
)
from appliance.engine import conduct, devices, fits, messages, resident, wire
from appliance.engine.channel import ChannelError
from appliance.engine.conversations import Channel, Conversations
from appliance.engine.dialled import DialledWorker
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded, ModelUnloaded
from appliance.engine.process import DEFAULT_COMMAND, WorkerProcess
from appliance.engine.status import EngineStatus, State
from appliance.engine.tunings import TuningStore
from appliance.engine.watch import Watch
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import ApplianceError
from appliance.fitting.machine import read_machine
from appliance.log import get_logger
from appliance.metrics import WorkerFigures
from appliance.tasks import Answered, Task

FIRST_BACKOFF_SECONDS = 0.5
HEALTHY_SECONDS = 60.0  # a worker that lived this long starts the next back-off from the beginning
STOP_GRACE_SECONDS = 3.0

log = get_logger(__name__)

_Worker = WorkerProcess | DialledWorker


class Engine:
    """Owner of every field: the `_live` task."""

    def __init__(
        self,
        spec: ModelSpec,
        settings: EngineSettings,
        *,
        clock: Clock,
        on_event: Callable[[EngineEvent], None],
        command: Sequence[str] = DEFAULT_COMMAND,
        tunings: TuningStore | None = None,
        thorough: bool = False,
        adapters: Callable[[], Sequence[Adapter]] = tuple,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.spec = spec
        self._settings = settings
        self._clock = clock
        self._on_event = on_event
        self._command = command
        self._tunings = tunings
        self._thorough = thorough  # measure anew, and longer
        self._adapters = adapters  # asked before each load: what questions may name besides the spec's own
        self._prepare = prepare  # before each worker: an ApplianceError says why there is to be none
        self._state = State.STOPPED
        self._ready: messages.Ready | None = None
        self._changed = asyncio.Event()
        self._restarts = 0
        self._last_error = self._code = ""
        self._watch = Watch(settings)
        self._stats: messages.Stats | None = None
        self._worker: _Worker | None = None
        self._conversations = Conversations(self._connected)
        self._life: asyncio.Task[None] | None = None
        self._conduct = conduct.Conduct()

    @property
    def is_ready(self) -> bool:
        return self._state is State.READY

    @property
    def num_asked(self) -> int:
        """Questions that the worker answers now."""
        return len(self._conversations)

    @property
    def status(self) -> EngineStatus:
        told = (self._last_error, self._stats, self._code)
        return EngineStatus(self._state, self._ready, self._restarts, *told)

    def carries(self, adapter: Adapter | None) -> bool:
        """Whether the worker that is ready was loaded with it."""
        loaded = self._ready.adapters if self._ready is not None else ()
        return adapter is None or wire.adapter_id(adapter) in loaded

    @property
    def worker_pid(self) -> int | None:
        """The worker's process; None while there is none, or none that is known."""
        return self._worker.pid if self._worker is not None else None

    @property
    def worker_bytes(self) -> int | None:
        """What the worker holds of the machine's memory; None while there is none, or it is not known.

        Another user's process is not shown to this one: of a dialled worker it is what it last said.
        """
        if isinstance(self._worker, WorkerProcess):
            return resident.of(self._worker.pid)
        said = self._stats or self._ready
        if self._worker is None or said is None:
            return None
        return said.resident_bytes or None

    @property
    def figures(self) -> WorkerFigures | None:
        """What the worker last told about itself; None while there is nothing."""
        stats, ready = self._stats, self._ready
        if stats is None or ready is None:
            return None
        return wire.figures_of(stats, ready)

    @property
    def dialect(self) -> str:
        """How this model writes tool calls and thoughts: a name in `dialects`."""
        return self._ready.dialect if self._ready is not None else "plain"

    @property
    def setup(self) -> Setup | None:
        """In which a reproducible request would be computed now; None while no worker is ready."""
        ready = self._ready
        if ready is None:
            return None
        return wire.setup_of(ready)

    async def start(self) -> None:
        """Begin the worker's life; readiness comes later."""
        if self._life is None:
            self._life = asyncio.create_task(self._live(), name=f"engine {self.spec.id}")

    async def wait_ready(self, seconds: float) -> bool:
        """True when the worker answers; False at the deadline, or when it could not be loaded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._state in {State.STOPPED, State.STARTING}:
                    self._changed.clear()
                    await self._changed.wait()
        return self.is_ready

    async def stop(self) -> None:
        """End the worker; what still runs fails with `engine_failed`. No process stays behind."""
        if self._life is None:
            return
        self._enter(State.DRAINING)
        self._life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._life
        self._life = None
        self._enter(State.STOPPED)
        self._on_event(ModelUnloaded(self.spec))

    def generate(
        self, request: InferenceRequest, *, tenant: str = "", adapter: Adapter | None = None
    ) -> AsyncGenerator[Started | Delta | Finished, None]:
        """`Started` when a choice's prompt was taken, pieces, and one `Finished`.

        `tenant` shares prefixes with its own requests only, and under the same adapter. RequestError where
        the worker refuses the prompt, Unavailable where it can not answer, or has not loaded the adapter.
        Closing the generator early aborts the request.
        """
        return self._conversations.generate(request, tenant=tenant, adapter=adapter)

    def perform(self, task: Task) -> AsyncGenerator[Answered, None]:
        """A task's one answer. Errors, and closing it early, as with `generate`."""
        return self._conversations.perform(task)

    def _connected(self) -> Channel | None:
        return self._worker.channel if self._worker is not None and self.is_ready else None

    async def _live(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            began_us = self._clock.monotonic_us()
            try:
                code = await self._one_life()
            except Exception as error:  # a bug of ours must not leave the model without its keeper
                log.exception("worker_life_crashed", model=self.spec.id)
                code = self._failed("supervisor_failed", type(error).__name__)
            self._on_event(ModelFailed(self.spec, code))
            if code == conduct.MISBEHAVED and self._conduct.misbehaved(self._clock.monotonic_us()):
                # No other worker: what is there is for a person to look at.
                self._on_event(ModelFailed(self.spec, self._failed(conduct.GIVEN_UP, conduct.ADVICE)))
                return
            lived_seconds = (self._clock.monotonic_us() - began_us) / 1e6
            if lived_seconds > HEALTHY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            log.error(
                "worker_down",
                model=self.spec.id,
                code=code,
                seconds=backoff,
                restarts=self._restarts,
            )
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, self._settings.restart_backoff_max_seconds)
            self._restarts += 1

    async def _one_life(self) -> str:
        """From spawn to death; why it died."""
        self._enter(State.STARTING)
        try:
            if self._prepare is not None:
                await self._prepare()
        except ApplianceError as error:
            return self._failed(error.code, error.message)
        try:
            worker = self._worker = await self._begin()
        except OSError as error:
            return self._failed("spawn_failed", f"the worker can not be started: {error.strerror}")
        except ApplianceError as error:
            return self._failed(error.code, f"{error.message}: {error.hint}" if error.hint else error.message)
        try:
            if failed := await self._until_ready(worker):
                status = await worker.end(grace_seconds=STOP_GRACE_SECONDS)
                code = conduct.code_of(status, otherwise=failed.code)
                return self._failed(code, _with_words(failed.message, worker))
            if problem := await self._watch.beside(self._listen(worker)):
                self._fail_requests()
                return self._failed("worker_hung", problem)
            # Nobody waits for the process to be reaped: callers hear of its death at once.
            self._fail_requests()
            status = await worker.end(grace_seconds=STOP_GRACE_SECONDS)
            return self._failed(conduct.code_of(status), _with_words(conduct.words_of(status), worker))
        finally:
            self._worker = None
            self._fail_requests()
            ending = asyncio.ensure_future(worker.end(grace_seconds=STOP_GRACE_SECONDS))
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:  # stopped just now: no process stays behind, and no life either
                await ending
                raise

    async def _begin(self) -> _Worker:
        """A child of ours, or what answers at `engine.worker_socket`."""
        load = self._load_message()
        await asyncio.to_thread(self._check, load)
        if self._settings.worker_socket:
            return await DialledWorker.dial(Path(self._settings.worker_socket), load)
        return await WorkerProcess.spawn(self._command, load)

    def _check(self, load: messages.LoadModel) -> None:
        """Unavailable where it can not fit. What a GPU has is known to the worker alone, which asks then."""
        if not devices.will_load_gpu(load.device, load.n_gpu_layers):
            # A worker of systemd's is in a group of its own, not in ours.
            fits.check(load, read_machine(in_groups=not self._settings.worker_socket))

    async def _until_ready(self, worker: _Worker) -> messages.LoadFailed | None:
        """None when the worker said Ready; otherwise what is wrong."""
        try:
            async with asyncio.timeout(self._settings.load_timeout_seconds):
                message = await worker.channel.receive()
        except TimeoutError:
            return messages.LoadFailed("the model did not load within engine.load_timeout_seconds")
        except ChannelError as error:
            return messages.LoadFailed(str(error))
        match message:
            case messages.Ready():
                worker.note_ready(message)
                self._ready = message
                self._last_error = self._code = ""
                self._keep_tuning(message)
                self._enter(State.READY)
                self._on_event(ModelLoaded(self.spec, message))
                log.info(
                    "worker_ready",
                    model=self.spec.id,
                    pid=worker.pid,
                    backend=message.backend,
                    flash_attn=message.tuning.flash_attn,
                    n_threads=message.tuning.n_threads,
                    n_threads_batch=message.tuning.n_threads_batch,
                    load_us=message.load_us,
                    sandbox=" ".join(message.sandbox),
                    fallback=message.fallback,
                )
                return None
            case messages.LoadFailed():
                return message
            case None:
                return messages.LoadFailed("the worker ended while it was loading")
            case _:
                return messages.LoadFailed("the worker spoke before it was ready")

    async def _listen(self, worker: _Worker) -> None:
        """Hand messages to those who wait for them, until the worker is gone."""
        try:
            while (message := await worker.channel.receive()) is not None:
                match message:
                    case messages.Stats():
                        self._stats = message
                    case messages.Pulse():
                        self._watch.heard(message)
                    case messages.Ready() | messages.LoadFailed():
                        return  # out of turn: give this worker up
                    case _:
                        self._conversations.heard(message)
        except ChannelError:
            log.error("worker_not_understood", model=self.spec.id, pid=worker.pid)

    def _fail_requests(self) -> None:
        if self._state is State.READY:
            self._enter(State.FAILED)
        self._conversations.fail_all()

    def _failed(self, code: str, error: str) -> str:
        self._last_error, self._code = error, code
        self._ready = None
        self._stats = None
        self._enter(State.FAILED)
        return code

    def _enter(self, state: State) -> None:
        self._state = state
        self._changed.set()

    def _keep_tuning(self, ready: messages.Ready) -> None:
        """What was measured once holds until the machine, the library or the model changes."""
        if self._tunings is None or not ready.trials:
            return
        try:
            self._tunings.store(self.spec, ready.tuning, ready.trials)
        except OSError as error:  # the next load measures again; the model answers all the same
            log.warning("tuning_not_stored", model=self.spec.id, error=type(error).__name__)

    def _load_message(self) -> messages.LoadModel:
        tuning = None
        if not self._thorough and self._tunings is not None:
            tuning = self._tunings.find(self.spec)
        return wire.load_message(
            self.spec, self._settings, tuning, thorough=self._thorough, adapters=self._adapters()
        )


def _with_words(problem: str, worker: _Worker) -> str:
    words = worker.last_words
    return f"{problem}: {words}" if words else problem
