"""The audit database's disk fills, or its file goes: nothing more leaves the box (law 4)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import asking
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import Command, Problem, Recover
from appliance.core import Role
from tests.harness import Gateway, gateway, question, sse, wait_until
from tests.needed import missing
from tests.records import assert_verified, closing_of

pytestmark = pytest.mark.integration

FILL_BYTES = 1 << 20
SMALL = '[audit]\norigin = "test/audit/1"\nballast_mib = 8\nmin_free_mib = 4\n'


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to fill."""
    point = tmp_path / "disk"
    point.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(point)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        if os.geteuid() == 0:
            missing(f"a small file system can not be mounted: {made.stderr.decode()}")
        pytest.skip("mounting a small file system needs root")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def slow_stream(running: Gateway) -> tuple[httpx.Client, httpx.Response, Iterator[Any]]:
    client = running.client()
    request = client.build_request(
        "POST",
        "/v1/chat/completions",
        json=question("please be slow; say 400 tokens", stream=True, max_tokens=400),
    )
    answer = client.send(request, stream=True)
    return client, answer, sse(answer.iter_lines())


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * FILL_BYTES)


def leave(path: Path, free_mib: int) -> None:
    """Fill the disk up to a rest."""
    with path.open("ab", buffering=0) as file:
        while (found := os.statvfs(path)).f_bavail * found.f_frsize > free_mib << 20:
            file.write(b"\0" * FILL_BYTES)


def control_problem(running: Gateway, command: Command) -> Problem:
    answer = asking.send(running.home.control_socket, command)
    assert isinstance(answer, Problem), answer
    return answer


def content_of(event: Any) -> str:
    choices = event.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "audit_unavailable"
    assert int(answer.headers["retry-after"]) >= 1


def assert_closed_to_everybody(running: Gateway, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=30) as client:
        began = time.monotonic()
        assert_unavailable(client.post("/v1/chat/completions", json=question("echo: x")))
        assert_unavailable(client.post("/v1/chat/completions", json=question("x", stream=True)))
        assert time.monotonic() - began < 4
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["audit"]["state"] == "latched"
        assert ready.json()["audit"]["reason"]
        # A refusal that can not be recorded is no ordinary refusal any more.
        assert_unavailable(client.post("/v1/chat/completions", content=b"{"))
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("victim", ["appliance.db", "appliance.db-wal"])
def test_file_removed_under_the_running_server(tmp_path: Path, victim: str) -> None:
    """A removed database (or its WAL) ends streams in an error event and stops admissions."""
    with gateway(tmp_path / "home") as running:
        key = running.key()
        client, _answer, events = slow_stream(running)
        before = [event for event, _ in zip(events, range(3), strict=False)]
        assert any(content_of(event) for event in before)
        (running.home.root / victim).unlink()
        rest = list(events)
        client.close()

        assert rest[-1]["error"]["code"] == "audit_unavailable"
        # What was durable before the file went may still be on its way; nothing after it.
        assert sum(bool(content_of(event)) for event in rest[:-1]) <= 1
        assert_closed_to_everybody(running, key)


def test_latch_ends_streams_that_have_no_segments(tmp_path: Path) -> None:
    """Law 4 holds in final mode as well: behind the latch no piece leaves."""
    toml = '[audit]\norigin = "test/audit/1"\nstream = "final"\n'
    with gateway(tmp_path / "home", toml=toml) as running:
        client, _answer, events = slow_stream(running)
        before = [event for event, _ in zip(events, range(3), strict=False)]
        assert any(content_of(event) for event in before)
        running.home.database.unlink()
        with running.client() as asking:
            assert asking.get("/readyz").status_code == 503
        rest = list(events)
        client.close()

    assert rest[-1]["error"]["code"] == "audit_unavailable"
    assert sum(bool(content_of(event)) for event in rest[:-1]) <= 10


def test_idle_server_notices_a_removed_file(tmp_path: Path) -> None:
    """`/readyz` looks for itself: no request is needed to find out."""
    with gateway(tmp_path / "home") as running, running.client() as client:
        assert client.get("/readyz").status_code == 200
        running.home.database.rename(tmp_path / "taken-away.db")

        assert client.get("/readyz").status_code == 503


def test_full_disk_latches_and_recovery_is_an_act(small_disk: Path) -> None:
    """A full disk stops everything at once; room alone changes nothing; `recover` opens again."""
    with gateway(small_disk / "home", toml=SMALL) as running:
        key = running.key()
        ballast = running.home.ballast.stat()
        assert ballast.st_size == ballast.st_blocks * 512 == 8 << 20
        answered = running.chat("echo: before").headers["x-request-id"]
        client, streamed, events = slow_stream(running)
        before = [event for event, _ in zip(events, range(3), strict=False)]
        assert any(content_of(event) for event in before)
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"):
            fill(filler)
        rest = list(events)
        client.close()
        assert rest[-1]["error"]["code"] == "audit_unavailable"
        assert_closed_to_everybody(running, key)
        with running.client() as asking:
            assert [each["code"] for each in asking.get("/readyz").json()["troubles"] if each["stops"]] == [
                "disk_full"
            ]
        # The ballast made room for the last words: what was open is closed, and the record says why.
        request_id = streamed.headers["x-request-id"]
        assert closing_of(running.home, request_id).public["outcome"] == "recovered"
        (alarm,) = query.search(running.home.database, kind=Kind.LOG_ALARM)
        assert alarm.public["code"] == "disk_full"
        assert running.home.ballast.stat().st_size == 0
        assert control_problem(running, Recover()).code == "disk_low"

        filler.unlink()
        assert_unavailable(running.chat("echo: room again"))

        running.command(Recover())
        assert running.home.ballast.stat().st_blocks * 512 == 8 << 20
        assert running.chat("echo: open again").status_code == 200
        assert closing_of(running.home, answered).public["outcome"] == "stop"
        assert closing_of(running.home, request_id).public["outcome"] == "recovered"
        running.stop()
        assert_verified(running.home)


def test_disk_fills_up_slowly(small_disk: Path) -> None:
    """At 75 % the record says so once; below the low-water mark nothing new begins, and what runs ends."""
    toml = SMALL.replace("min_free_mib = 4", "min_free_mib = 16")
    with gateway(small_disk / "home", toml=toml) as running, running.client() as client:

        def disk() -> dict[str, Any]:
            found: dict[str, Any] = client.get("/readyz").json()["audit"]["disk"]
            return found

        def alarms() -> list[Any]:
            found = query.search(running.home.database, kind=Kind.LOG_ALARM, limit=100)
            return [record.public["code"] for record in found][::-1]

        filler = small_disk / "filler"
        leave(filler, 36)  # of 160
        wait_until(lambda: disk()["state"] == "warning", seconds=5)
        warned = client.get("/readyz")
        assert (warned.status_code, warned.json()["troubles"][0]["code"]) == (200, "disk_warning")
        assert running.chat("echo: still served").status_code == 200
        streaming, _answer, events = slow_stream(running)
        before = [event for event, _ in zip(events, range(3), strict=False)]
        leave(filler, 12)
        wait_until(lambda: disk()["state"] == "low", seconds=5)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["audit"]["state"]) == (503, "ready")
        assert [each["code"] for each in ready.json()["troubles"]] == ["disk_low"]
        refused = running.chat("echo: too late")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "disk_low")
        assert int(refused.headers["retry-after"]) >= 1
        with running.client(Role.OPERATOR) as operator:
            text = operator.get("/metrics").text
        assert "appliance_disk_low 1.0" in text
        assert "appliance_audit_ready 1.0" in text
        rest = list(events)
        streaming.close()
        assert any(content_of(event) for event in before)
        assert rest[-1] == "[DONE]"
        assert alarms() == ["disk_warning", "disk_low"]

        filler.unlink()
        wait_until(lambda: disk()["state"] == "ok", seconds=5)
        assert running.chat("echo: room again").status_code == 200
        running.stop()
        assert_verified(running.home)


def test_latch_survives_a_restart(tmp_path: Path) -> None:
    """A latched log stays latched after a restart until an operator has run recovery."""
    with gateway(tmp_path / "home") as running:
        key = running.key()
        wal = running.home.root / "appliance.db-wal"
        aside = tmp_path / "aside"
        wal.rename(aside)
        assert_unavailable(running.chat("echo: x"))
        aside.rename(wal)
        running.stop()

        running.start()
        assert_closed_to_everybody(running, key)
        answer = asking.send(running.home.control_socket, Recover())
        assert not isinstance(answer, Problem), answer
        wait_until(lambda: running.chat("echo: y").status_code == 200)
        running.stop()
        assert_verified(running.home)


def test_log_names_what_happened_without_content(tmp_path: Path) -> None:
    """The operational log tells of the latch in JSON lines; prompts and keys are not in it."""
    with gateway(tmp_path / "home") as running:
        key = running.key()
        running.chat("echo: canary-31337")
        running.home.database.unlink()
        running.chat("echo: canary-31337")
        running.stop()
        text = running.log_file.read_text()

    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert "audit_latched" in events
    assert "canary-31337" not in text
    assert key not in text
    assert key.rsplit("_", 1)[1] not in text


def test_reading_needs_no_writer(tmp_path: Path) -> None:
    """What was recorded before the fault can still be read beside the running gateway."""
    with gateway(tmp_path / "home") as running:
        request_id = running.chat("echo: kept").headers["x-request-id"]
        running.key(Role.OPERATOR)

        assert len(query.by_request(running.home.database, request_id)) == 2
