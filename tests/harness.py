"""A whole appliance for tests: a real `appliance serve` process on a free loopback port.

With `worker="fake"` the worker program is `tests.fakes.fake_worker`, which speaks the real messages;
with `worker="model"` it is the real one with the starter model. Everything lives under one home.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from appliance import asking, config
from appliance.accounts import terms_form
from appliance.commands import Answer, Command, CreateKey, Done
from appliance.config import Home
from appliance.core import Role
from appliance.engine.messages import Tuning
from appliance.engine.tunings import Tunings
from appliance.modelling import catalog_of
from appliance.terms import Terms
from tests.homes import copy_home

START_SECONDS = 90.0  # of a machine that has much else to do
PROGRAM = Path(sys.executable).with_name("appliance")


@dataclass
class Gateway:
    """One running gateway. `stop` and `kill` end the processes that it started, by id."""

    home: Home
    worker: Literal["fake", "model"] = "fake"
    url: str = ""
    console_url: str = ""
    output: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    program: Sequence[str] = ()  # replaces the program that serves; it takes --home and --log-file
    num_keys: int = 0  # that were made with terms
    options: Sequence[str] = ()  # more of its words
    _keys: dict[Role, str] = field(default_factory=dict)

    def start(self, *, until: str = "is ready") -> Gateway:
        """Start, and wait until a line of output contains `until`."""
        command = self.program or (
            [sys.executable, "-m", "tests.fakes.serve"]
            if self.worker == "fake"
            else [str(PROGRAM), "serve", "--port", "0", "--console-port", "0"]
        )
        self.process = subprocess.Popen(
            [*command, "--home", str(self.home.root), "--log-file", str(self.log_file), *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process, lines), daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while True:
            line = lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if line is None:
                raise AssertionError("the gateway ended at its start: " + "".join(self.output))
            if line.startswith("listening on "):
                self.url = line.split()[2]
            if line.startswith("console on "):
                self.console_url = line.split()[2]
            if until in line:
                return self

    @property
    def log_file(self) -> Path:
        """The JSON log, outside the home so that both can be searched on their own."""
        return self.home.root.with_suffix(".log")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def worker_pid(self) -> int:
        """The worker is the gateway's child whose command line names a worker module."""
        for pid in _children(self.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"worker" in command:
                return pid
        raise AssertionError("no worker process")

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise

    def command(self, command: Command) -> dict[str, Any]:
        """A command over the control socket."""
        answer: Answer | None = asking.send(self.home.control_socket, command)
        assert isinstance(answer, Done), answer
        return answer.result

    def key(
        self,
        role: Role = Role.KIOSK,
        *,
        stores_responses: bool = False,
        terms: Terms = Terms(),  # noqa: B008 - frozen
    ) -> str:
        """A key of this role, made once per gateway; whoever asks first says what it may.

        With terms it is one of its own, which nobody else is given.
        """
        if terms != Terms():
            self.num_keys += 1
            name = f"test-{role}-{self.num_keys}"
            asked = CreateKey(
                name=name, role=role, stores_responses=stores_responses, terms=terms_form.form_of(terms)
            )
            made: str = self.command(asked)["token"]
            return made
        if role not in self._keys:
            name = f"test-{role}"
            asked = CreateKey(name=name, role=role, replace=True, stores_responses=stores_responses)
            self._keys[role] = self.command(asked)["token"]
        return self._keys[role]

    def client(self, role: Role | None = Role.KIOSK, **options: Any) -> httpx.Client:
        """A client with a key of this role, or none."""
        headers = {"authorization": f"Bearer {self.key(role)}"} if role else {}
        headers |= options.pop("headers", {})
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def chat(self, text: str, **options: Any) -> httpx.Response:
        """One question, not streamed."""
        with self.client() as client:
            return client.post("/v1/chat/completions", json=question(text, **options))

    def wait_ready(self, *, seconds: float = 20) -> None:
        """Poll `/readyz` until it is 200."""
        with self.client() as client:
            wait_until(lambda: client.get("/readyz").status_code == 200, seconds=seconds)

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
                lines.put(line)
        lines.put(None)


@contextlib.contextmanager
def gateway(root: Path, *, worker: Literal["fake", "model"] = "fake", toml: str = "") -> Iterator[Gateway]:
    """A started gateway over a fresh home; stopped at the end whatever happened."""
    running = Gateway(home=copy_home(root, toml=toml), worker=worker)
    if worker == "model":
        keep_tuning(running.home)
    try:
        yield running.start()
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def keep_tuning(home: Home, model: str = "default") -> None:
    """A choice as the first load would store it: tests need not measure the machine."""
    settings = config.load(home)
    spec = catalog_of(home, settings).resolve(model)
    assert spec is not None
    tuning = Tuning(flash_attn=True, n_threads=1, n_threads_batch=2)
    Tunings(home.tuning, n_gpu_layers=settings.engine.n_gpu_layers).store(spec, tuning, ())


def question(text: str, **options: Any) -> dict[str, Any]:
    """A body for the chat route."""
    return {"model": "default", "messages": [{"role": "user", "content": text}], **options}


def stored_response(running: Gateway, text: str = "echo: x", **options: Any) -> str:
    """The id of a response that is stored. The gateway's key must be one that may."""
    body = {"model": "default", "input": text, "store": True, **options}
    with running.client() as client:
        answer = client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    stored: str = answer.json()["id"]
    return stored


def sse(lines: Iterator[str]) -> Iterator[dict[str, Any] | str]:
    """The data of each event: parsed JSON, or the string `[DONE]`."""
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def gauge_of(metrics: str, name: str) -> float:
    """The sum of one metric over all its labels."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(f"{name}{{"))


def wait_until(condition: Any, *, seconds: float = 10.0) -> None:
    """Poll `condition` until it holds; AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.02)


def appliance(
    *arguments: str, home: Home | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the installed program."""
    options: Sequence[str] = ("--home", str(home.root)) if home else ()
    return subprocess.run(
        [str(PROGRAM), *arguments, *options],
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
        env={key: value for key, value in os.environ.items() if key != "APPLIANCE_HOME"},
    )


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
