"""Memory of the process that holds the model, after the same room: ours and llama-server's."""

from __future__ import annotations

from pathlib import Path

from tests.bench import clients, rooms, tuning
from tests.bench.figures import Row, Run
from tests.bench.peers import CELLS, Server, has_llama_server, llama_server, ours

TARGET = 1.1
ROOM = 0
CLIENTS = 8
REQUESTS = 24
ANSWER_TOKENS = 48
_KIB_PER_MIB = 1024


def run(run: Run) -> list[Row]:
    """MiB; one server at a time, so that no page of the model's file is counted half."""
    with ours(run.folder()) as server:
        mine = _after_a_room(server)
    if not has_llama_server():
        return [Row(f"worker, {kind}", "MiB", mine[kind]) for kind in mine]
    with llama_server(run.folder(), tuning.best(run, CLIENTS)) as server:
        peer = _after_a_room(server)
    run.note(f"memory after {REQUESTS} requests, {CELLS} cells on both sides")
    return [
        Row(f"worker, {kind}", "MiB", mine[kind], "llama-server", peer[kind], at_most=TARGET) for kind in mine
    ]


def _after_a_room(server: Server) -> dict[str, float]:
    room = rooms.room(ROOM)
    questions = [room.messages(n) for n in range(REQUESTS)]
    clients.crowd(server, questions, clients=CLIENTS, max_tokens=ANSWER_TOKENS)
    return _memory(server.pid)


def _memory(pid: int) -> dict[str, float]:
    """RSS and PSS as the kernel adds them up."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, value = line.split(":")
        fields[name.upper()] = int(value.split()[0]) / _KIB_PER_MIB
    return {kind: fields[kind] for kind in ("RSS", "PSS")}
