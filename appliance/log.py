"""The operational log: JSON lines in which no prompt, answer or key can appear.

The rule is an allow-list: a field passes when its name is known and its value is a scalar. Anything
else is replaced by the name of its type. Exceptions are told as type, our own code, and the places
of their frames; what a foreign exception says about a value is never written. Standard loggers
(uvicorn, asyncio, alembic) pass the same gate: of their text only the constant format is kept.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TextIO, cast

import structlog

from appliance import durable
from appliance.config import Log
from appliance.errors import ApplianceError, SetupError

FIELDS = frozenset(
    {
        "event", "level", "timestamp", "room", "request_id", "method", "route", "status",
        "duration_us", "key_id", "record", "model", "state", "reason", "error", "code", "frames",
        "tree_size", "restarts", "pid", "exit_code", "signal", "uid", "event_kind", "load_us",
        "flash_attn", "n_threads", "n_threads_batch", "sandbox", "fallback",
        "backend", "library", "count", "version", "assertion", "seconds", "free_mib", "used_percent",
        "filesystem",
    }
)  # fmt: skip
MAX_VALUE_CHARACTERS = 300
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(settings: Log) -> None:
    """Route structlog and the standard library's loggers to standard error or to a private file."""
    stream = _File.replace(_open(settings.file) if settings.file else None)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    _speak(stream, level)
    root = logging.getLogger()
    root.handlers = [_Gate()]
    root.setLevel(max(level, logging.INFO))
    logging.captureWarnings(capture=True)


def get_logger(name: str) -> Any:
    """A logger that tells where it speaks from."""
    return structlog.get_logger(room=name)


@contextlib.contextmanager
def bind_request(request_id: str) -> Iterator[None]:
    """Every line inside carries this request's id."""
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        yield


def only_known_fields(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The gate: known names, scalar values, exceptions without their words."""
    exc_info = event.pop("exc_info", None)
    kept = {name: _scalar(value) for name, value in event.items() if name in FIELDS}
    dropped = sorted(set(event) - FIELDS)
    if dropped:
        kept["count"] = len(dropped)
    if exc_info:
        kept.update(_exception(exc_info))
    return kept


def _scalar(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:MAX_VALUE_CHARACTERS]
    return f"<{type(value).__name__}>"


def _exception(exc_info: object) -> dict[str, str]:
    found: Any = sys.exc_info() if exc_info is True else exc_info
    error = found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException):
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
    told = {
        "error": type(error).__name__,
        "frames": " > ".join(places)[-MAX_VALUE_CHARACTERS:],
    }
    if isinstance(error, ApplianceError):
        told["code"] = error.code
    return told


def _speak(stream: TextIO | None, level: int) -> None:
    """Have structlog write through the gate; None stands for standard error, whatever it is then."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_known_fields,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(cast("TextIO", _Steady(stream or sys.stderr))),
        cache_logger_on_first_use=False,
    )


class _Steady(io.TextIOBase):
    """A stream whose failure stops nobody: the disk that is full may be the log file's too.

    Lines that were lost are counted, and told when a line can be written again.
    """

    _lost: ClassVar[int] = 0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        lost = _Steady._lost
        told = f'{{"event": "log_lines_lost", "level": "error", "count": {lost}}}\n' if lost else ""
        try:
            self._stream.write(told + text)
            self._stream.flush()
        except OSError:
            _Steady._lost += 1
        else:
            _Steady._lost = 0
        return len(text)

    def flush(self) -> None:
        """Each line is flushed where it is written."""


class _File:
    """The open log file, if any: one per process, closed when the next one takes its place."""

    _current: ClassVar[TextIO | None] = None

    @classmethod
    def replace(cls, following: TextIO | None) -> TextIO | None:
        if cls._current is not None:
            cls._current.close()
        cls._current = following
        return following


class _Gate(logging.Handler):
    """Standard library records, through the same gate."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "warning" if record.levelno == logging.WARNING else record.levelname.lower()
        if record.levelno < logging.WARNING:
            return
        log = structlog.get_logger(room=record.name)
        # `record.msg` is the constant format; its arguments may hold anything and stay out.
        message = record.msg if isinstance(record.msg, str) and record.args else "message"
        getattr(log, level if hasattr(log, level) else "error")(
            "library_log", reason=message.split("\n", 1)[0], exc_info=record.exc_info
        )


def _open(path: str) -> TextIO:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, durable.PRIVATE_FILE)
    except OSError as error:
        raise SetupError(f"can not write the log file: {error.strerror}", code="log_file") from error
    return os.fdopen(fd, "a", buffering=1, encoding="utf-8")


# structlog's own default draws tracebacks with local variables: prompts and keys. So the gate stands
# from the first import on, also for whoever never calls `configure`.
_speak(None, logging.INFO)
