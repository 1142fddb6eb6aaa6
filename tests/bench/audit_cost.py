"""What the record costs: our server in strict mode on disk, and the same server with its commit left out."""

from __future__ import annotations

import sys
from statistics import fmean

from tests.bench import clients, rooms
from tests.bench.figures import Row, Run
from tests.bench.peers import ours

TARGET = 0.95
ROOM = 6
CLIENTS = 8
ANSWER_TOKENS = 48
FILL_REQUESTS = 16
REQUESTS = 24
ROUNDS = 3
UNRECORDED = (sys.executable, "-m", "tests.bench.serve_unrecorded")


def run(run: Run) -> list[Row]:
    """Both servers stand side by side and are asked in turns, so that a slow minute is slow for both."""
    room = rooms.room(ROOM)
    with ours(run.folder()) as with_log, ours(run.folder(), program=UNRECORDED) as without:
        servers = (with_log, without)
        rows = []
        for way, stream in (("streamed", True), ("in one piece", False)):
            seconds: dict[str, list[float]] = {each.url: [] for each in servers}
            for number in range(ROUNDS + 1):
                count = REQUESTS if number else FILL_REQUESTS
                questions = [room.messages(1000 * number + n) for n in range(count)]
                # Who goes second finds a warmer machine: take turns at that, too.
                for server in servers if number % 2 else servers[::-1]:
                    done = clients.crowd(
                        server, questions, clients=CLIENTS, max_tokens=ANSWER_TOKENS, stream=stream
                    )
                    if number:
                        seconds[server.url].append(done.seconds)
            recorded, unrecorded = (REQUESTS / fmean(seconds[each.url]) for each in servers)
            run.say(f"answers {way}: {recorded:.2f} requests/s with the log, {unrecorded:.2f} without")
            label = f"warm room, {CLIENTS} clients, answers {way}, strict"
            rows.append(Row(label, "requests/s", recorded, "commit left out", unrecorded, TARGET))
        return rows
