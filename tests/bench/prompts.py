"""Long prompts that share nothing: reading them, with a short answer each."""

from __future__ import annotations

import dataclasses

from tests.bench import clients, rooms, tuning
from tests.bench.figures import Row, Run
from tests.bench.peers import Choice, Server, has_llama_server, llama_server, ours

CLIENTS = 8
REQUESTS = 24
ANSWER_TOKENS = 16
WARM_LETTER = 999_999


def run(run: Run) -> list[Row]:
    """Requests per second."""
    with ours(run.folder()) as server:
        mine = _rate(run, server)
    label = f"unique prompts of about 700 tokens, {CLIENTS} clients"
    if not has_llama_server():
        return [Row(label, "requests/s", mine)]
    # What is best for a shared room need not be best here: attention is tried again.
    best = tuning.best(run, CLIENTS)
    peers: dict[Choice, float] = {}
    for choice in (best, dataclasses.replace(best, flash=not best.flash)):
        with llama_server(run.folder(), choice) as server:
            peers[choice] = _rate(run, server)
    choice = max(peers, key=lambda each: peers[each])
    run.note(f"llama-server's better settings for unique prompts: {choice}")
    return [Row(label, "requests/s", mine, "llama-server", peers[choice], 1.0)]


def _rate(run: Run, server: Server) -> float:
    clients.crowd(server, [rooms.letter(WARM_LETTER)], clients=1, max_tokens=2)
    letters = [rooms.letter(n) for n in range(REQUESTS)]
    done = clients.crowd(server, letters, clients=CLIENTS, max_tokens=ANSWER_TOKENS)
    read = sum(each.prompt_tokens for each in done.answers) / done.seconds
    run.say(f"{server.name}: {done.rate:.2f} requests/s, {read:.0f} prompt tokens/s")
    return done.rate
