"""One worker process: spawn, talk, listen to its last words, end it. No decisions here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence

from appliance.engine.channel import AsyncChannel
from appliance.engine.messages import LoadModel, Ready, Shutdown, ToGateway, ToWorker

DEFAULT_COMMAND = (sys.executable, "-m", "appliance.engine.worker")
MAX_LAST_WORDS = 40
_LINE_BYTES = 64 * 1024
# What each worker gets in addition; a unit gives it the same (deploy/units).
VARIABLES = {
    "GGML_NO_BACKTRACE": "1",
    "PYTHONUNBUFFERED": "1",
    # How long the library's threads spin when they wait for each other. Measured on two cores, a
    # step of eight: spinning for as long as libgomp likes takes 25 ms alone and 1,300 ms beside a
    # neighbour that wants a core; so short a spin 25 and 67 ms; none at all 40 and 50 ms.
    "GOMP_SPINCOUNT": "2000",
}
# After Ready the worker has seen prompts: of its words only the library's own assertions are kept.
_ASSERTION = re.compile(rb"([\w./-]+:\d+: )?(GGML_ASSERT\([\x20-\x7e]{0,160}\) failed|CUDA error)")


class WorkerProcess:
    """A spawned worker. Owner: its supervisor's task."""

    def __init__(
        self, process: asyncio.subprocess.Process, channel: AsyncChannel[ToGateway, ToWorker]
    ) -> None:
        self._process = process
        self.channel = channel
        self._is_ready = False  # from then on stderr may carry content
        self._last_words: deque[str] = deque(maxlen=MAX_LAST_WORDS)
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def spawn(cls, command: Sequence[str], load: LoadModel) -> WorkerProcess:
        """Start the program on one end of a socket pair, and hand it its model."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                "--fd",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                env=environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is the gateway's business
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            channel: AsyncChannel[ToGateway, ToWorker] = await AsyncChannel.over(ours, ToGateway)
        except BaseException:  # stopped in the middle of it: nobody else knows the process yet
            ours.close()
            process.kill()
            await process.communicate()
            raise
        worker = cls(process, channel)
        channel.send(load)
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    def note_ready(self, _ready: Ready) -> None:
        """It answers; the supervisor says so."""
        self._is_ready = True

    @property
    def last_words(self) -> str:
        """What it wrote to standard error: before Ready its end, after Ready only assertions."""
        return "\n".join(self._last_words)

    async def wait(self) -> int:
        """The exit code, negative for a signal, when the process and its words are at their end."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(self._listener)
        return code

    async def end(self, *, grace_seconds: float) -> int:
        """Shutdown by message, then SIGTERM, then SIGKILL, each with a bound."""
        if self._process.returncode is None:
            self.channel.send(Shutdown())
        self.channel.close()
        for act in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: whoever is stopped in the moment of the process's end must not live on.
                async with asyncio.timeout(grace_seconds):
                    return await self.wait()
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(act)
        return await self.wait()

    async def _listen(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the limit: drop what is there
                continue
            if not line:
                return
            if not self._is_ready:
                self._last_words.append(line.decode("utf-8", "replace").rstrip()[:500])
            elif found := _ASSERTION.search(line):
                self._last_words.append(found[0].decode("ascii", "replace"))


def environment() -> dict[str, str]:
    """Only what a program needs to start: no secrets, no proxies, no library search paths."""
    kept = (
        "PATH",
        "LANG",
        "LC_ALL",
        "PYTHONPATH",
        "CUDA_VISIBLE_DEVICES",
        "PYTHONDONTWRITEBYTECODE",
    )
    environment = {name: os.environ[name] for name in kept if name in os.environ}  # noqa: TID251
    return environment | VARIABLES
