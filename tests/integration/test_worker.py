"""The worker program by itself, at the other end of a socket pair: when it speaks and when it ends."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from appliance.engine.channel import MAX_FRAME_BYTES, BlockingChannel
from appliance.engine.messages import (
    Abort,
    Count,
    Counted,
    Delta,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    Failed,
    Finished,
    Generate,
    LoadModel,
    Pulse,
    Ready,
    Rejected,
    Shutdown,
    Started,
    ToGateway,
    ToWorker,
)
from appliance.engine.question import Sampling, Turn
from tests.fakes.fake_backend import ASSISTANT

LOAD = LoadModel("fake", "", 4096, 2, 64, 1, 1, 0, 4, 150_000, 0)
GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, None, ())


@dataclass
class Worker:
    """A worker process, and the gateway's end of its socket."""

    process: subprocess.Popen[bytes]
    channel: BlockingChannel[ToGateway, ToWorker]
    sock: socket.socket

    def ask(self, request_id: str, text: str) -> None:
        self.channel.send(Generate(request_id, (Turn("user", text),), GREEDY))

    def hear(self) -> ToGateway:
        """What it says next, but for its pulse."""
        while isinstance(message := self.channel.receive(), Pulse):
            pass
        assert message is not None
        return message

    def end(self, *, seconds: float = 5) -> int:
        """The exit code; TimeoutExpired where it goes on living."""
        return self.process.wait(seconds)


@contextlib.contextmanager
def started(*first: ToWorker) -> Iterator[Worker]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.fake_worker", "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        channel: BlockingChannel[ToGateway, ToWorker] = BlockingChannel(ours, ToGateway)
        channel.send(*first)
        try:
            yield Worker(process, channel, ours)
        finally:
            channel._stream.close()
            process.kill()
            process.wait(5)


@contextlib.contextmanager
def ready() -> Iterator[Worker]:
    with started(LOAD) as worker:
        assert isinstance(worker.hear(), Ready)
        yield worker


def test_end_of_file_in_the_middle_of_an_answer_ends_the_process() -> None:
    """The gateway's death is the worker's, whatever it is computing."""
    with ready() as worker:
        worker.ask("a", "please be slow; say 4000 tokens")
        assert [type(worker.hear()) for _ in range(2)] == [Started, Delta]
        worker.sock.shutdown(socket.SHUT_RDWR)

        assert worker.end() == 0


def test_shutdown_ends_the_process() -> None:
    """A worker that is told to go goes, without finishing what it does."""
    with ready() as worker:
        worker.ask("a", "please be slow; say 4000 tokens")
        assert isinstance(worker.hear(), Started)
        worker.channel.send(Shutdown())

        assert worker.end() == 0


@pytest.mark.parametrize("frame", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\xc1\xc1"])
def test_a_peer_that_can_not_be_understood_is_given_up(frame: bytes) -> None:
    """Nonsense on the socket ends the worker with an error, not with a thread less."""
    with ready() as worker:
        worker.sock.sendall(frame)

        assert worker.end() == 1


def test_messages_out_of_turn_end_the_process() -> None:
    """A second LoadModel, or anything before the first one, is no protocol."""
    with ready() as worker:
        worker.channel.send(LOAD)
        assert worker.end() == 1
    with started(Abort("a")) as worker:
        assert worker.end() == 1


def test_intake_that_fails_takes_the_process_with_it() -> None:
    """A worker that could hear nobody any more would hang its callers, and outlive its gateway."""
    with ready() as worker:
        worker.ask("a", "please break the tokenizer")

        assert worker.end() == 1


def test_answers_that_no_frame_can_hold_are_refusals() -> None:
    """What a caller asks for can be larger than a frame: the worker says so, and lives."""
    with ready() as worker:
        many = (ASSISTANT,) * (MAX_FRAME_BYTES // len("<|assistant|>") + 1)
        worker.channel.send(Detokenize("large", many), Detokenize("small", (104, 105)))

        answers = [worker.hear(), worker.hear()]
        assert isinstance(answers[0], Rejected)
        assert answers[0].code == "invalid_value"
        assert answers[1] == Detokenized("small", "hi")


def test_tasks_and_answers_are_computed_in_turn() -> None:
    """Each gets its one terminal message, whatever else is going on; an abort is answered too."""
    with ready() as worker:
        worker.ask("chat", "please be slow; say 20 tokens")
        slow = Embed("gone", ("please be slow",) * 200)
        worker.channel.send(slow, Embed("short", ("x",)), Count("count", ()), Abort("gone"))
        ends: dict[str, ToGateway] = {}
        while len(ends) < 4:
            message = worker.hear()
            if isinstance(message, Embedded | Counted | Failed | Finished):
                assert message.request_id not in ends
                ends[message.request_id] = message

        assert isinstance(ends["short"], Embedded)
        assert isinstance(ends["count"], Counted)
        assert isinstance(ends["chat"], Finished)
        assert isinstance(ends["gone"], Failed)
        assert ends["gone"].code == "aborted"


def test_started_means_that_there_was_room() -> None:
    """A request beyond the queue is refused before it is taken, so its caller gets a status for it."""
    with ready() as worker:
        worker.ask("slow", "please be slow; say 4000 tokens")
        assert isinstance(worker.hear(), Started)
        for n in range(12):
            worker.ask(str(n), "echo: x")
        heard: dict[str, list[type[ToGateway]]] = {str(n): [] for n in range(12)}
        while not all({Finished, Failed} & set(kinds) for kinds in heard.values()):
            message = worker.hear()
            if isinstance(message, Started | Delta | Finished | Failed) and message.request_id != "slow":
                heard[message.request_id].append(type(message))

        refused = [kinds for kinds in heard.values() if Failed in kinds]
        assert refused
        assert all(kinds == [Failed] for kinds in refused)
        assert all(kinds[0] is Started for kinds in heard.values() if Finished in kinds)
