"""What is being asked of one worker: each question with an inbox for what the worker says to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from appliance.core import Adapter, Delta, Finished, InferenceRequest, Started
from appliance.engine import choices, messages, task_wire, wire
from appliance.engine.channel import AsyncChannel
from appliance.errors import Unavailable
from appliance.tasks import Answered, Task

_TERMINAL = messages.Finished | messages.TaskAnswer | messages.Rejected | messages.Failed
_ToQuestion = messages.Started | messages.Delta | _TERMINAL
_Inbox = asyncio.Queue[_ToQuestion]
Channel = AsyncChannel[messages.ToGateway, messages.ToWorker]


class Conversations:
    """Owner of the inboxes: the event loop's thread. `connected`: the way to a worker that is ready."""

    def __init__(self, connected: Callable[[], Channel | None]) -> None:
        self._connected = connected
        self._inboxes: dict[str, _Inbox] = {}

    def __len__(self) -> int:
        """Questions that wait for their terminal message."""
        return len(self._inboxes)

    async def generate(
        self, request: InferenceRequest, *, tenant: str, adapter: Adapter | None
    ) -> AsyncGenerator[Started | Delta | Finished, None]:
        """`Started` when a choice's prompt was taken, pieces, and one `Finished`."""
        if request.num_choices == 1:
            streams = [self._choice(wire.to_wire(request, tenant, adapter=adapter))]
        else:
            ids = [f"{request.request_id}.{choice}" for choice in range(request.num_choices)]
            asked = [
                wire.to_wire(request, tenant, request_id=each, choice=at, adapter=adapter)
                for at, each in enumerate(ids)
            ]
            streams = [self._choice(each, at) for at, each in enumerate(asked)]
        stream = streams[0] if len(streams) == 1 else choices.merged(streams, request.n)
        async with contextlib.aclosing(stream) as heard:
            async for item in heard:
                yield item

    async def perform(self, task: Task) -> AsyncGenerator[Answered, None]:
        """A task's one answer."""
        async with contextlib.aclosing(self._converse(task_wire.to_wire(task))) as heard:
            async for message in heard:
                if isinstance(message, messages.TaskAnswer):
                    yield task_wire.to_core(message)
                else:
                    wire.to_core(message)  # raises: a task hears nothing else but refusals and failures

    def heard(self, message: _ToQuestion) -> None:
        """Hand a worker's message to who waits for it; nobody may, after an abort."""
        inbox = self._inboxes.get(message.request_id)
        if inbox is not None:
            inbox.put_nowait(message)

    def fail_all(self) -> None:
        """The worker is gone: nothing more comes to any question."""
        for request_id, inbox in self._inboxes.items():
            inbox.put_nowait(messages.Failed(request_id, "engine_failed", "the model's worker has died"))

    async def _choice(
        self, question: messages.Generate, choice: int = 0
    ) -> AsyncGenerator[Started | Delta | Finished, None]:
        async with contextlib.aclosing(self._converse(question)) as heard:
            async for message in heard:
                yield wire.to_core(message, choice=choice)

    async def _converse(
        self, question: messages.Generate | messages.TaskMessage
    ) -> AsyncGenerator[_ToQuestion, None]:
        """What the worker says to a question, its terminal message last."""
        channel = self._connected()
        if channel is None:
            raise Unavailable(
                "the model is loading or restarting", code="model_not_ready", retry_after_seconds=2
            )
        inbox: _Inbox = asyncio.Queue()
        self._inboxes[question.request_id] = inbox
        is_over = False
        try:
            channel.send(question)
            while True:
                message = await inbox.get()
                is_over = isinstance(message, _TERMINAL)
                yield message
                if is_over:
                    return
        finally:
            self._inboxes.pop(question.request_id, None)
            if not is_over and self._connected() is channel:
                channel.send(messages.Abort(question.request_id))
