"""What is wrong is said on `/readyz`, by its code; what can be kept is kept; no record is lost.

Each of these has a whole gateway, and a fault that goes away again. Others of the same kind: a disk that
fills, a database that is removed (test_storage), a worker and a gateway that are killed (test_kill), a record
that is tampered with (test_red), system calls that fail (test_syscall_faults), a power cut (test_power_loss),
a certificate that does not fit (tests/integration/test_tls), a database's server that goes
(tests/postgres/test_faults).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import asking
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import Look, Problem, Recover
from appliance.config import Home
from appliance.core import Role
from tests.fault.test_storage import content_of, slow_stream
from tests.harness import Gateway, appliance, gateway, question, sse, wait_until
from tests.homes import make_home
from tests.integration.test_tls import Site
from tests.needed import missing
from tests.records import assert_verified, closing_of, openings

pytestmark = pytest.mark.integration

QUICK = "[engine]\nsilent_seconds = 2\n"
DAY = 86_400
CGROUPS = Path("/sys/fs/cgroup")
LIMIT_BYTES = 4 << 20  # of memory that the worker takes from now on


def troubles(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """What `/readyz` says, by its codes; its status must fit to it. This host's full disk does not count."""
    answer = client.get("/readyz")
    found = answer.json()["troubles"]
    assert answer.status_code == (503 if any(each["stops"] for each in found) else 200)
    assert answer.json()["ready"] is (answer.status_code == 200)
    return {each["code"]: each for each in found if each["code"] != "disk_warning"}


def told(running: Gateway) -> dict[str, dict[str, Any]]:
    with running.client() as client:
        return troubles(client)


def until_told(running: Gateway, code: str) -> dict[str, Any]:
    wait_until(lambda: code in told(running), seconds=20)
    return told(running)[code]


def assert_whole(running: Gateway) -> None:
    """Nothing is open, nothing is lost."""
    running.stop()
    for opening in openings(running.home):
        closing_of(running.home, str(opening.request_id))
    assert_verified(running.home)


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Another program holds the database for itself."""
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_short_lock_of_the_database_is_waited_for(tmp_path: Path) -> None:
    """Somebody who looks at the file for a moment stops nobody."""
    with gateway(tmp_path / "home") as running:
        running.key()
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(running.chat("echo: x")))
        with locked(running.home):
            asking.start()
            asking.join(0.3)
            assert answers == []
        asking.join(20)

        assert answers[0].status_code == 200
        assert told(running) == {}
        assert_whole(running)


def test_database_that_somebody_locks_closes_the_log(tmp_path: Path) -> None:
    """Said by name on `/readyz` and by doctor; what ran ends; recovery opens it once it is let go."""
    with gateway(tmp_path / "home") as running:
        running.key()
        client, streamed, events = slow_stream(running)
        before = [event for event, _ in zip(events, range(3), strict=False)]
        with locked(running.home):
            rest = list(events)
            client.close()
            found = told(running)["database_locked"]
            refused = running.chat("echo: x")
            doctor = appliance("doctor", "--json", home=running.home, check=False)
            recovery = asking.send(running.home.control_socket, Recover())
        answered_again = running.chat("echo: x")
        running.command(Recover())

        assert any(content_of(event) for event in before)
        assert rest[-1]["error"]["code"] == "audit_unavailable"
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "audit_unavailable")
        assert answered_again.status_code == 503  # it may have lost an entry: an operator looks first
        checks = {each["name"]: each for each in json.loads(doctor.stdout)["checks"]}
        for check in (checks["database_locked"], checks["latch"]):
            assert (check["level"], check["says"], check["hint"]) == ("fail", found["says"], found["hint"])
        assert isinstance(recovery, Problem)
        assert "SQLITE_BUSY" in recovery.message
        assert told(running) == {}
        assert running.chat("echo: y").status_code == 200
        assert closing_of(running.home, streamed.headers["x-request-id"]).public["outcome"] == "recovered"
        assert_whole(running)


def test_stopped_worker_is_noticed_under_a_request(tmp_path: Path) -> None:
    """SIGSTOP: its callers hear of it, new ones are told to come back, and another worker follows."""
    with gateway(tmp_path / "home", toml=QUICK) as running:
        running.key()
        client, streamed, events = slow_stream(running)
        assert any(content_of(event) for event, _ in zip(events, range(3), strict=False))
        stopped = running.worker_pid
        os.kill(stopped, signal.SIGSTOP)
        rest = list(events)
        client.close()
        found = until_told(running, "worker_hung")
        refused = running.chat("echo: too early")
        looked = running.command(Look())["troubles"]

        assert rest[-1]["error"]["code"] == "engine_failed"
        assert "has not answered for 2 s" in found["says"]
        assert found in looked  # what doctor prints
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_ready")
        assert int(refused.headers["retry-after"]) >= 1
        running.wait_ready()
        assert not Path(f"/proc/{stopped}").exists()
        assert running.chat("echo: again").status_code == 200
        closing = closing_of(running.home, streamed.headers["x-request-id"])
        assert (closing.public["outcome"], closing.public["code"]) == ("failed", "engine_failed")
        codes = [each.public["code"] for each in query.search(running.home.database, kind=Kind.MODEL_FAILED)]
        assert codes == ["worker_hung"]
        assert_whole(running)


def test_stopped_worker_is_noticed_while_nobody_asks(tmp_path: Path) -> None:
    """An idle one as well: the first caller of the morning finds another."""
    with gateway(tmp_path / "home", toml=QUICK) as running:
        os.kill(running.worker_pid, signal.SIGSTOP)
        until_told(running, "worker_hung")
        running.wait_ready()

        assert running.chat("echo: morning").status_code == 200
        assert_whole(running)


def test_worker_that_is_stuck_in_a_step_is_started_anew(tmp_path: Path) -> None:
    """It lives and says so, and no step ends: after the time of a whole request it is given up."""
    toml = f"{QUICK}request_timeout_seconds = 3\n"
    with gateway(tmp_path / "home", toml=toml) as running:
        hung = running.chat("please hang")

        assert hung.json()["error"]["code"] in {"request_timeout", "engine_failed"}
        found = until_told(running, "worker_hung")
        assert "at one step" in found["says"]
        running.wait_ready()
        assert running.chat("echo: again").status_code == 200
        assert_whole(running)


def test_stopped_gateway_is_no_stopped_worker(tmp_path: Path) -> None:
    """A gateway that was asleep hears what its worker said meanwhile before it judges."""
    with gateway(tmp_path / "home", toml=QUICK) as running:
        running.key()
        client, _streamed, events = slow_stream(running)
        assert any(content_of(event) for event, _ in zip(events, range(3), strict=False))
        os.kill(running.pid, signal.SIGSTOP)
        threading.Event().wait(4)
        os.kill(running.pid, signal.SIGCONT)
        rest = list(events)
        client.close()

        assert rest[-1] == "[DONE]"
        assert told(running) == {}
        assert_whole(running)


@contextlib.contextmanager
def little_memory(pid: int) -> Iterator[None]:
    """A control group of its own, in which the process gets no more than LIMIT_BYTES."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if unified else CGROUPS / "memory") / f"appliance-test-{pid}"
    try:
        group.mkdir()
        limits = ("memory.max",) if unified else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        for each in limits:
            with contextlib.suppress(FileNotFoundError):  # a kernel that does not count swap
                (group / each).write_text(str(LIMIT_BYTES))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        missing(f"a control group for memory can not be made here: {error}")
    try:
        yield
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_worker_that_runs_out_of_memory_takes_nobody_with_it(tmp_path: Path) -> None:
    """The kernel ends it in the middle of a question: that fails, the next one is answered."""
    with gateway(tmp_path / "home") as running:
        before = running.chat("echo: before")
        with little_memory(running.worker_pid):
            killed = running.chat("x" * 1_500_000)

        assert before.status_code == 200
        assert (killed.status_code, killed.json()["error"]["code"]) == (503, "engine_failed")
        running.wait_ready()
        assert running.chat("echo: again").status_code == 200
        closing = closing_of(running.home, killed.headers["x-request-id"])
        assert (closing.public["outcome"], closing.public["code"]) == ("failed", "engine_failed")
        assert_whole(running)


@pytest.fixture
def stepping(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway over TLS whose wall clock a test sets, by the file `clock_of`."""
    site = Site(tmp_path / "tls")
    site.issue()
    home = make_home(tmp_path / "home", toml=site.toml)
    running = Gateway(home=home, program=[sys.executable, "-m", "tests.fakes.serve_stepping"])
    try:
        yield running.start()
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def set_clock(running: Gateway, seconds: float) -> None:
    running.home.root.with_suffix(".clock").write_text(str(seconds), encoding="ascii")


def test_clock_that_jumps_is_told_and_the_record_goes_on(stepping: Gateway) -> None:
    """Forwards by a day, back by two: requests are answered, no time on the record goes backwards."""
    with stepping.client(verify=False) as client:

        def ask() -> None:
            answer = client.post("/v1/chat/completions", json=question("echo: x"))
            assert answer.status_code == 200, answer.text

        assert troubles(client) == {}
        for seconds in (DAY, -DAY):
            set_clock(stepping, seconds)
            wait_until(lambda: "clock_stepped" in troubles(client), seconds=20)
            ask()
            assert "nothing is removed by its age" in troubles(client)["clock_stepped"]["says"]
        set_clock(stepping, 0)
        wait_until(lambda: "within the last hour" in troubles(client)["clock_stepped"]["says"], seconds=20)
        ask()

    found = list(query.search(stepping.home.database, kind=Kind.CLOCK_STEPPED, limit=10))
    steps = [round((int(each.public["found_us"]) - int(each.public["expected_us"])) / 1e6) for each in found]
    assert [round(each / DAY) for each in steps] == [1, -2, 1]
    times = [each.ts for each in query.search(stepping.home.database, limit=1000)]
    assert times == sorted(times, reverse=True)
    assert_whole(stepping)


def test_certificate_whose_time_ends_while_it_is_served(stepping: Gateway) -> None:
    """503 and its code; the stream that runs goes on; with the right time it is ready again."""

    def alarms() -> list[Any]:
        found = query.search(stepping.home.database, kind=Kind.LOG_ALARM)
        return [each.public["code"] for each in found]

    with stepping.client(verify=False) as client:
        body = question("please be slow; say 60 tokens", stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            events = sse(answer.iter_lines())
            next(events)
            set_clock(stepping, 100 * DAY)
            wait_until(lambda: "certificate_over" in troubles(client), seconds=20)
            wait_until(lambda: "certificate_over" in alarms(), seconds=20)
            rest = list(events)
        set_clock(stepping, 0)
        wait_until(lambda: "certificate_over" not in troubles(client), seconds=20)

    assert rest[-1] == "[DONE]"
    assert alarms().count("certificate_over") == 1
    assert_whole(stepping)


def test_every_role_sees_what_is_wrong(tmp_path: Path) -> None:
    """A kiosk's program has to know when to send people to the counter."""
    with gateway(tmp_path / "home", toml=QUICK) as running:
        seen = []
        for role in (Role.KIOSK, Role.OPERATOR, Role.AUDITOR):
            with running.client(role) as client:
                seen.append(troubles(client))

    assert seen == [{}, {}, {}]
