"""A release tried before anything is switched: a home of its own, a loopback port, one real answer on a real
record.

The smallest model that the store holds is asked, beside whatever serves now: two large ones may not fit.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle import layout
from appliance.bundle.install import homes
from appliance.bundle.install.programs import CLEAN, Program, ProgramFailed, as_account
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit

_READY_SECONDS: Final = 600.0
_ANSWER_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 60.0
_LISTENING: Final = re.compile(r"listening on http://127\.0\.0\.1:([0-9]+)")
_KEY: Final = re.compile(r"kiosk key \(.*\): (\S+)")
_CONFIG: Final = 'default_model = "{model}"\n[engine]\nn_ctx = 2048\nspill_mib = 0\nprefix_cache_cells = 0\n'
_QUESTION: Final = {
    "model": "default",
    "messages": [{"role": "user", "content": "Say yes."}],
    "max_tokens": 4,
    "temperature": 0,
}


@dataclass(frozen=True, slots=True)
class _Model:
    id: str
    sha256: str
    size: int


def smoke(site: Site, program: Program) -> str:
    """Serve, answer, verify, stop. The record's name of the answer; BundleRefused (41) where anything is
    wrong.
    """
    model = _smallest(site, program.folder)
    if model is None:
        raise BundleRefused(
            Exit.PREFLIGHT,
            "neither this bundle nor this host holds a model of the release's catalogue",
            hint="build the bundle with --model, or import the bundle that holds it first",
        )
    scratch = site.state / "smoke"
    homes.make_owned(scratch, program.account)
    try:
        homes.write_owned(scratch / "appliance.toml", _CONFIG.format(model=model.id), program.account)
        program.run("init", "--home", str(scratch))
        homes.link_models(scratch, site.store, [model.sha256], program.account)
        record = _serve_and_ask(program, scratch)
        program.run("audit", "verify", "--home", str(scratch))
    except ProgramFailed as error:
        raise BundleRefused(Exit.UNHEALTHY, f"the new release failed its trial: {error.message}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return record


def _smallest(site: Site, folder: Path) -> _Model | None:
    found = []
    for path in sorted((folder / "app/models").glob("*.toml")):
        about = tomllib.loads(path.read_text(encoding="utf-8"))
        found.append(_Model(str(about["id"]), str(about["sha256"]), int(about["size_bytes"])))
    held = [each for each in found if layout.stored(site.store, each.sha256).is_file()]
    return min(held, key=lambda each: each.size, default=None)


def _serve_and_ask(program: Program, scratch: Path) -> str:
    with _serving(program, scratch) as (port, key):
        return _ask(port, key)


@contextlib.contextmanager
def _serving(program: Program, scratch: Path) -> Iterator[tuple[int, str]]:
    """(port, key) of a gateway that is ready; stopped in order behind it."""
    words = ["serve", "--home", str(scratch), "--host", "127.0.0.1", "--port", "0", "--console-port", "0"]
    words += ["--kiosk-key", "smoke", "--log-file", str(scratch / "serve.log")]
    process = subprocess.Popen(  # noqa: S603 - a verified release's own program
        [str(program.path), *words],
        cwd="/",
        env=CLEAN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o077,
        start_new_session=True,
        **as_account(program.account),
    )
    try:
        yield _wait_ready(process)
        process.send_signal(signal.SIGTERM)
        if process.wait(_STOP_SECONDS):
            raise BundleRefused(Exit.UNHEALTHY, f"the new release ended its trial with {process.returncode}")
    except subprocess.TimeoutExpired as error:
        raise BundleRefused(Exit.UNHEALTHY, "the new release does not stop") from error
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_ready(process: subprocess.Popen[str]) -> tuple[int, str]:
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    deadline = time.monotonic() + _READY_SECONDS
    port, said = 0, [""]
    while True:
        try:
            line = lines.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            raise BundleRefused(Exit.UNHEALTHY, "the new release did not get ready in its trial") from None
        if line is None:
            raise BundleRefused(Exit.UNHEALTHY, f"the new release ended at its start: {'; '.join(said[-3:])}")
        said.append(line.strip()[:200])
        if match := _LISTENING.match(line):
            port = int(match[1])
        if match := _KEY.match(line):
            return port, match[1]


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    if process.stdout is not None:
        with process.stdout:
            for line in process.stdout:
                lines.put(line)
    lines.put(None)


def _ask(port: int, key: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(_QUESTION), headers)
        answer = connection.getresponse()
        body = json.loads(answer.read(1 << 20))
        record = answer.getheader("x-audit-record", "")
        if answer.status != 200 or not record or not body["choices"][0]["finish_reason"]:
            raise BundleRefused(Exit.UNHEALTHY, f"the new release answered {answer.status} in its trial")
    except (OSError, ValueError, KeyError, IndexError, http.client.HTTPException) as error:
        raise BundleRefused(
            Exit.UNHEALTHY, f"the new release gave no answer: {type(error).__name__}"
        ) from error
    finally:
        connection.close()
    return record
