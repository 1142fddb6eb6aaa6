"""The operational log: known fields, scalar values, and no words of anybody else."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from appliance import log as logging_setup
from appliance.config import Log
from appliance.errors import RequestError, SetupError

CANARY = "canary-9c41"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, object]]]]:
    """Configure into a file; the lines that were written, parsed."""
    path = tmp_path / "log.jsonl"
    logging_setup.configure(Log(level="debug", file=str(path)))
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    logging_setup.configure(Log())


def test_known_scalars_pass(written: Callable[[], list[dict[str, object]]]) -> None:
    """A line is JSON with its event, level, time and known fields."""
    logging_setup.get_logger("room").info("request", status=200, route="/v1/models", key_id=None)
    (line,) = written()

    assert {name: line[name] for name in ("event", "status", "route", "key_id", "level", "room")} == {
        "event": "request",
        "status": 200,
        "route": "/v1/models",
        "key_id": None,
        "level": "info",
        "room": "room",
    }
    assert str(line["timestamp"]).endswith("Z")


def test_nothing_else_passes(written: Callable[[], list[dict[str, object]]]) -> None:
    """Unknown fields are dropped, structures become their type's name, long text is cut."""
    log = logging_setup.get_logger("room")
    log.info("one", prompt=CANARY, answer=CANARY, authorization=CANARY)
    log.info("two", reason=[CANARY], code={"a": CANARY}, error=Path(CANARY))
    log.info("three", reason="x" * 5000)
    lines = written()

    assert CANARY not in json.dumps(lines)
    assert lines[0]["count"] == 3
    assert (lines[1]["reason"], lines[1]["code"]) == ("<list>", "<dict>")
    assert len(str(lines[2]["reason"])) == logging_setup.MAX_VALUE_CHARACTERS


def test_exceptions_are_told_without_their_words(written: Callable[[], list[dict[str, object]]]) -> None:
    """Type, our code, and places; never the message or a value."""
    log = logging_setup.get_logger("room")
    for error in (ValueError(CANARY), RequestError(CANARY, code="invalid_value")):
        try:
            raise error
        except (ValueError, RequestError):
            log.exception("crashed")
    lines = written()

    assert CANARY not in json.dumps(lines)
    assert [line["error"] for line in lines] == ["ValueError", "RequestError"]
    assert lines[1]["code"] == "invalid_value"
    assert "test_log.py:" in str(lines[0]["frames"])


def test_library_loggers_pass_the_same_gate(written: Callable[[], list[dict[str, object]]]) -> None:
    """Only the constant format of a library's record is kept, and its tracebacks lose their words."""
    logger = logging.getLogger("uvicorn.error")
    logger.warning("refused %s", CANARY)
    logger.warning(f"refused {CANARY}")  # noqa: G004 - a library that formats by itself
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("failed")
    lines = written()

    assert CANARY not in json.dumps(lines)
    assert [line["reason"] for line in lines] == ["refused %s", "message", "message"]


def test_request_ids_are_bound(written: Callable[[], list[dict[str, object]]]) -> None:
    """Lines of a request carry its id, others do not."""
    log = logging_setup.get_logger("room")
    with logging_setup.bind_request("req_1"):
        log.info("inside")
    log.info("outside")

    assert [line.get("request_id") for line in written()] == ["req_1", None]


def test_file_is_private_and_must_be_writable(tmp_path: Path) -> None:
    """Created for its owner; a path that can not be written is a setup error."""
    path = tmp_path / "log.jsonl"
    logging_setup.configure(Log(file=str(path)))
    structlog.get_logger().error("x")

    assert path.stat().st_mode & 0o077 == 0
    logging_setup.configure(Log())
    with pytest.raises(SetupError):
        logging_setup.configure(Log(file=str(tmp_path / "no" / "such")))


def test_import_alone_is_safe() -> None:
    """Before anybody configures it, a room's log shows no local variable and no foreign words."""
    script = textwrap.dedent(
        f"""
        from appliance.log import get_logger
        log = get_logger("room")
        def seal(prompt):
            raise ValueError(prompt)
        try:
            seal("{CANARY}")
        except ValueError:
            log.exception("crashed", prompt="{CANARY}")
        log.info("told")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert CANARY not in done.stdout + done.stderr
    assert [line["event"] for line in lines] == ["crashed", "told"]
    assert lines[0]["error"] == "ValueError"


def test_log_that_can_not_be_written_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk may hold the log file too: lines are lost, counted, and the count is told."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        logging_setup._speak(full, logging.INFO)
        for _ in range(3):
            logging_setup.get_logger("room").error("audit_latched")
        with contextlib.suppress(OSError):
            full.flush()
        logging_setup.configure(Log())
        logging_setup.get_logger("room").info("again")
        with contextlib.suppress(OSError):
            full.close()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert [(line["event"], line.get("count")) for line in lines] == [("log_lines_lost", 3), ("again", None)]
