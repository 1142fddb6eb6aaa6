"""Programs that tests run under strace: the real write path, and mutants of it that must be caught.

`python -m tests.fault.traced SCENARIO HOME ACKS [MUTANT]`. An acknowledgement is one line in ACKS,
written by one system call the moment a caller has it: `<seq> <leaf>`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import appliance.audit.log as log_module
import appliance.audit.sequencer as sequencer_module
from appliance import config, durable
from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.cli.init import initialise
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Delta, Outcome
from appliance.databases import sqlite

CALLERS = 6
ROUNDS = 6
KILLS = 25
SIZES = (40, 900, 5_000, 20_000)


def opening(request_id: str, text: str) -> Entry:
    """A request's opening with a content of its own size."""
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={"endpoint": "chat", "model": "m", "model_sha256": "0" * 64, "stream": 1},
        content={"messages": [{"role": "user", "content": text}]},
        request_id=request_id,
        actor="key",
        subject=f"user:{request_id[-1]}",
    )


def small_checkpoints() -> None:
    """Let checkpoints come every few commits: their crashes and faults are to be seen too."""
    vars(sequencer_module)["CHECKPOINT_BYTES"] = 200 << 10


def weaken(mutant: str) -> None:
    """One of the mistakes that the test of power loss must notice."""
    if mutant == "synchronous=NORMAL":
        genuine = sqlite._connect_writer

        def connect(path: Path) -> sqlite3.Connection:
            connection = genuine(path)
            connection.execute("PRAGMA synchronous = NORMAL")
            return connection

        vars(sqlite)["_connect_writer"] = connect
    elif mutant == "head without fsync":

        def write_file(path: Path, data: bytes, *, mode: int = durable.PRIVATE_FILE) -> None:
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_bytes(data)
            temporary.chmod(mode)
            temporary.replace(path)

        durable.write_file = write_file
    else:
        raise ValueError(mutant)


async def exchange(log: AuditLog, acks: int, name: str, size: int) -> None:
    """Opening, two segments, closing; each is acknowledged when its caller has its receipt."""

    async def append(each: Entry) -> int:
        receipt = await log.append(each)
        os.write(acks, f"{receipt.seq} {receipt.leaf.hex()}\n".encode())
        return receipt.seq

    seq = await append(opening(name, "x" * size))
    for index in range(2):
        await append(entry.segment(name, seq, index, Delta("y" * (size // 2), 1), subject=f"user:{name[-1]}"))
    await append(entry.closed(name, seq, model="m", outcome=Outcome.STOP, num_segments=2))


async def serve(log: AuditLog, acks: int, prefix: str) -> None:
    """Rounds of concurrent exchanges of different sizes, so that batches differ too."""
    for number in range(ROUNDS):
        await asyncio.gather(
            *(
                exchange(log, acks, f"req_{prefix}_{number}_{caller}", SIZES[(number + caller) % len(SIZES)])
                for caller in range(1 + (number * 5) % CALLERS)
            )
        )


def record(home: Home, acks: int) -> None:
    """A life of the log: work, a latch and its recovery, work, a clean stop."""
    vars(log_module)["CHORES_SECONDS"] = 0.01
    small_checkpoints()
    log = AuditLog.open(home, config.load(home), SystemClock(), version="traced")
    asyncio.run(serve(log, acks, "a"))
    log._close_down("a test closes the log")
    log.recover()
    asyncio.run(serve(log, acks, "b"))
    log.close()


def kill(home: Home, acks: int) -> None:
    """Lives of the log that end by SIGKILL, at any moment behind their first acknowledgements."""
    small_checkpoints()
    chance = random.Random(9)
    for number in range(KILLS):
        os.write(acks, b"\n")  # the one killed before may have left half a line: a page's end was in it
        before = os.fstat(acks).st_size
        pid = os.fork()
        if pid == 0:
            log = AuditLog.open(home, config.load(home), SystemClock(), version="traced")
            while True:
                asyncio.run(serve(log, acks, f"{number}_{os.getpid()}_{time.monotonic_ns()}"))
        while os.fstat(acks).st_size < before + 2000:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main(arguments: list[str]) -> None:
    """Run one scenario."""
    scenario, root, ack_file, *mutants = arguments
    home = Home(root=Path(root))
    for mutant in mutants:
        weaken(mutant)
    acks = os.open(ack_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    scenarios: dict[str, Any] = {
        "record": lambda: record(home, acks),
        "kill": lambda: kill(home, acks),
        "init": lambda: initialise(home, profile="dev"),
    }
    scenarios[scenario]()


if __name__ == "__main__":
    main(sys.argv[1:])
