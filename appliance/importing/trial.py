"""The first time that anything native, or a foreign template, runs: in a process that is thrown away.

It has a worker's sandbox around it, and bounds of memory and time. No answer is a refusal as well, with the
process's last words; nothing of it reaches the process that asks.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from appliance.engine.channel import BlockingChannel, ChannelError
from appliance.engine.inspection import FromTrial, Inspect, Objection, Sound
from appliance.engine.process import environment
from appliance.importing.refusals import FileRefused

COMMAND: Final = (sys.executable, "-m", "appliance.engine.worker.inspector")
MEMORY_BYTES: Final = (
    2 << 30
)  # beside the files: a vocabulary, a description of each tensor, a template's text
_BASE_SECONDS: Final = 120
_BYTES_PER_SECOND: Final = 20_000_000  # of a slow disk: each tensor's values are read
_END_SECONDS: Final = 2.0  # for it to end by itself behind its answer
_LAST_BYTES: Final = 4096
_UNPRINTED: Final = re.compile(r"[^\x20-\x7e]+")


def run(asked: Inspect, size_bytes: int, command: Sequence[str] = COMMAND) -> Sound:
    """What it found. FileRefused where it objects, crashes, or takes too long.

    `size_bytes`: of all files that it reads; its time follows from that.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    seconds = _BASE_SECONDS + size_bytes // _BYTES_PER_SECOND
    with ours, tempfile.TemporaryFile() as words:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program, by its list of words
                [*command, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=environment(),
                start_new_session=True,
            )
        try:
            ours.settimeout(seconds)
            answer = _answer(ours, asked)
        except TimeoutError:
            raise FileRefused("model_takes_too_long", f"it took more than {seconds} s to load") from None
        finally:
            code = _end(process)
        if answer is None:
            raise FileRefused("model_crashes", f"llama.cpp ends over it: {_ended(code)}; {_last(words)}")
        if isinstance(answer, Objection):
            said = f"; {_last(words)}" if answer.code == "model_does_not_load" else ""
            raise FileRefused(answer.code, _plain(answer.reason) + said)
    return answer


def _answer(sock: socket.socket, asked: Inspect) -> FromTrial | None:
    """None where it hung up without one."""
    channel: BlockingChannel[Any, Inspect] = BlockingChannel(sock, FromTrial)
    try:
        channel.send(asked)
        found: FromTrial | None = channel.receive()
    except (ChannelError, ConnectionError):
        return None
    finally:
        channel.close()
    return found


def _end(process: subprocess.Popen[bytes]) -> int:
    """Whatever it does: it is gone behind this. Its exit code, negative for a signal."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=_END_SECONDS)
    process.kill()
    return process.wait()


def _ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _last(words: IO[bytes]) -> str:
    """The last lines that it wrote, made harmless."""
    size = words.seek(0, 2)
    words.seek(max(0, size - _LAST_BYTES))
    lines = [each for each in words.read().decode("utf-8", "replace").splitlines() if each.strip()]
    return _plain("; ".join(lines[-3:]))[:600] or "it said nothing"


def _plain(text: str) -> str:
    return _UNPRINTED.sub(" ", text)


def linked(folder: Path, files: Sequence[Path]) -> tuple[Path, ...]:
    """The same files once more in a folder that the trial may read, under their own names."""
    place = folder / "base"
    place.mkdir()
    made = tuple(place / (each.name if each.suffix else f"{each.name}.gguf") for each in files)
    for source, target in zip(files, made, strict=True):
        target.hardlink_to(source)
    return made
