"""A server that dies, hangs up, hangs or gives up waiting: latched, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from appliance.audit import query
from appliance.audit.files import Latch
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.config import Home
from appliance.databases.postgres import PostgresSchema, PostgresWriter
from appliance.errors import AuditUnavailable, SetupError, VerificationError
from tests.clocks import ManualClock
from tests.harness import wait_until
from tests.records import assert_verified, closing_of, place
from tests.servers import Server, make_server_home
from tests.servers import server as started
from tests.unit.audit.test_log import open_log, opening


def backend(log: AuditLog) -> psycopg.Connection[Any]:
    """The writer's own connection."""
    sequencer = log._sequencer
    assert sequencer is not None
    assert isinstance(sequencer._writer, PostgresWriter)
    return sequencer._writer._raw


def sequence(home: Home) -> list[int]:
    return [record.seq for record in query.search(place(home), limit=10_000)][::-1]


def test_killed_server_loses_no_acknowledged_entry(tmp_path: Path, clock: ManualClock) -> None:
    """SIGKILL of the whole server under eight callers: latched at once; what was acknowledged is there."""
    with started() as server:
        home = make_server_home(tmp_path / "home", server, server.new_database())
        log = open_log(home, clock)
        acknowledged: list[str] = []
        refused: list[int] = []

        def append_on(caller: int) -> None:
            with contextlib.suppress(AuditUnavailable):
                for number in range(10_000):
                    request = f"req_{caller}_{number}"
                    log.append_sync(opening(request))
                    acknowledged.append(request)
            refused.append(caller)

        callers = [threading.Thread(target=append_on, args=(n,)) for n in range(8)]
        for each in callers:
            each.start()
        wait_until(lambda: len(acknowledged) > 200, seconds=30)
        server.kill()
        for each in callers:
            each.join(15)
        assert sorted(refused) == list(range(8))
        assert not log.is_ready
        with pytest.raises(SetupError) as unreachable:
            log.recover()
        assert unreachable.value.code == "database_unreachable"
        assert Latch(home.latch).reason() != ""

        server.start()
        log.recover()
        log.append_sync(opening("req_after"))
        log.close()
        for request in acknowledged:
            kinds = [record.kind for record in query.by_request(place(home), request)]
            assert kinds == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]
        assert sequence(home) == list(range(len(sequence(home))))
        open_log(home, clock).close()  # closes req_after, which was open when the log was
        assert_verified(home)


@pytest.mark.parametrize("persisted", [True, False])
def test_commit_whose_outcome_is_unknown(home: Home, clock: ManualClock, *, persisted: bool) -> None:
    """The connection dies in the COMMIT: nobody is told anything, and recovery reads what is there."""
    log = open_log(home, clock)
    raw = backend(log)
    commit = raw.commit

    def die() -> None:
        if persisted:
            commit()
        raw.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    raw.commit = die  # type: ignore[method-assign]
    with pytest.raises(AuditUnavailable):
        log.append_sync(opening("req_unknown"))
    assert not log.is_ready
    log.recover()
    log.append_sync(opening("req_next"))
    log.close()
    open_log(home, clock).close()

    assert bool(query.by_request(place(home), "req_unknown")) is persisted
    if persisted:
        assert closing_of(home, "req_unknown").public["outcome"] == "recovered"
    assert sequence(home) == list(range(len(sequence(home))))
    assert_verified(home)


def test_cut_connection_is_noticed_while_idle(server: Server, home: Home, clock: ManualClock) -> None:
    """Nobody has to write for a lost connection to be seen; a new one is made by recovery alone."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    with server.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", (backend(log).info.backend_pid,))
    wait_until(lambda: not log.check().is_ready, seconds=5)
    with pytest.raises(AuditUnavailable):
        log.append_sync(opening("req_2"))

    assert "connection" in log.check().reason
    log.recover()
    log.append_sync(opening("req_3"))
    log.close()
    open_log(home, clock).close()
    assert_verified(home)


def test_cut_connection_under_load_latches(server: Server, home: Home, clock: ManualClock) -> None:
    """An entry that was on its way is not acknowledged, and no second connection goes on behind our back."""
    log = open_log(home, clock)
    pid = backend(log).info.backend_pid
    acknowledged = 0
    with server.connect() as admin:
        threading.Timer(0.2, lambda: admin.execute("SELECT pg_terminate_backend(%s)", (pid,))).start()
        with pytest.raises(AuditUnavailable):
            while True:
                log.append_sync(opening(f"req_{acknowledged}"))
                acknowledged += 1
        with pytest.raises(AuditUnavailable):
            log.append_sync(opening("req_late"))
        log.close()

    found = {record.request_id for record in query.search(place(home), limit=10_000)}
    assert {f"req_{number}" for number in range(acknowledged)} <= found
    assert "req_late" not in found


@pytest.fixture
def stopped_backend(home: Home, clock: ManualClock) -> Iterator[tuple[AuditLog, Callable[[], None]]]:
    """A log whose server process no longer runs, and how to let it run again."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    pid = backend(log).info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield log, lambda: os.kill(pid, signal.SIGCONT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        log.close()


@pytest.mark.skipif(os.getuid() != 0, reason="stops a process of another user")
async def test_blocked_server_is_a_failed_server(
    home: Home, clock: ManualClock, stopped_backend: tuple[AuditLog, Callable[[], None]]
) -> None:
    """A commit that does not end in time closes the log; recovery waits for how it ended."""
    log, let_run = stopped_backend
    began = time.monotonic()
    with pytest.raises(AuditUnavailable):
        await log.append(opening("req_2"))
    took = time.monotonic() - began

    assert 1.5 < took < 3.5
    assert not log.is_ready
    assert not (await asyncio.to_thread(log.check)).is_ready
    # Another process can not take over while the server still holds the first one's transaction.
    with pytest.raises(SetupError) as refused:
        place(home).open_writer()
    assert refused.value.code == "already_running"
    let_run()
    await asyncio.to_thread(log.recover)
    await log.append(opening("req_3"))
    log.close()
    open_log(home, clock).close()
    assert_verified(home)


def test_standby_that_was_given_up_is_no_acknowledgement(tmp_path: Path, clock: ManualClock) -> None:
    """A commit that only lasts here, by a warning of the server, is doubted and latches."""
    with started() as server:
        home = make_server_home(
            tmp_path / "home", server, server.new_database(),
            toml='[audit]\norigin = "standby/audit/1"\ncommit_timeout_seconds = 20\n',
        )  # fmt: skip
        log = open_log(home, clock)
        log.append_sync(opening("req_1"))
        with server.connect() as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
            pid = backend(log).info.backend_pid

            def give_up() -> None:
                waiting = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = %s"
                wait_until(lambda: admin.execute(waiting, (pid,)).fetchone() == (True,), seconds=15)
                admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                admin.execute("SELECT pg_cancel_backend(%s)", (pid,))
                admin.execute("SELECT pg_reload_conf()")

            helper = threading.Thread(target=give_up)
            helper.start()
            with pytest.raises(AuditUnavailable):
                log.append_sync(opening("req_2"))
            helper.join(20)
        assert "warned" in log.check().reason
        log.recover()
        log.close()
        assert closing_of(home, "req_2").public["outcome"] == "recovered"
        assert_verified(home)


def test_sequence_has_no_gaps_beside_rollbacks_and_strangers(
    server: Server, database: str, home: Home, clock: ManualClock
) -> None:
    """Somebody else's transactions that roll back leave no holes: places are given inside our own."""
    log = open_log(home, clock)
    log.append_sync(opening("req_0"))
    stop = threading.Event()
    schema = place(home)
    assert isinstance(schema, PostgresSchema)

    def disturb() -> None:
        with psycopg.connect(server.url("admin", database), options=f"-c search_path={schema.name}") as raw:
            number = 1_000_000
            while not stop.is_set():
                number += 1
                raw.execute(
                    "INSERT INTO log_entry (seq, ts, kind, hdr, leaf) VALUES (%s, 0, 'x', '', '')", (number,)
                )
                raw.rollback()

    others = [threading.Thread(target=disturb) for _ in range(3)]
    for each in others:
        each.start()
    for number in range(1, 60):
        log.append_sync(opening(f"req_{number}"))
    with pytest.raises(SetupError) as refused:
        schema.open_writer()
    stop.set()
    for each in others:
        each.join(10)
    log.close()

    assert refused.value.code == "already_running"
    assert sequence(home) == list(range(len(sequence(home))))
    open_log(home, clock).close()
    assert_verified(home)


def test_place_taken_by_a_stranger_latches(
    server: Server, database: str, home: Home, clock: ManualClock
) -> None:
    """A row put where ours has to go keeps ours out; nothing is acknowledged over it."""
    log = open_log(home, clock)
    schema = place(home)
    assert isinstance(schema, PostgresSchema)
    with server.connect(database, options=f"-c search_path={schema.name}") as admin:
        admin.execute(
            "INSERT INTO log_entry (seq, ts, kind, hdr, leaf) VALUES (%s, 0, 'x', '', '')", (log.tree_size,)
        )
    with pytest.raises(AuditUnavailable):
        log.append_sync(opening("req_1"))
    with pytest.raises(VerificationError, match="size"):
        log.recover()

    assert not log.is_ready
    assert "23505" in log.check().reason
    log.close()
