"""What the guide shows of `/v1/messages` runs as it stands: its curl, and its program in the client's own
environment, with another address and another key and nothing else.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Gateway, gateway
from tests.needed import missing, need

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "bootstrap"))

import clients  # noqa: E402 - set-up knows where it put them; it is a program of its own and no package

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("guide") / "home") as started:
        started.wait_ready()
        yield started


def shown(language: str) -> str:
    """The one block of a language in the guide's part."""
    guide = (ROOT / "deploy" / "guides" / "api.md").read_text(encoding="utf-8")
    part = guide.partition("\n## Messages, for Anthropic's clients\n")[2].partition("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)
    return str(block)


def test_curl_of_the_guide_is_answered(running: Gateway) -> None:
    """With the two variables that the guide's other commands have, too."""
    need("curl", package="curl")
    environment = {**os.environ, "URL": running.url, "KEY": running.key()}
    done = subprocess.run(
        ["sh", "-ec", shown("sh")], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert '"type":"message"' in done.stdout


def test_program_of_the_guide_runs(running: Gateway) -> None:
    """An answer, a stream and a count."""
    python = clients.find_python("anthropic")
    if python is None:
        missing("the client anthropic is not installed: make clients")
    program = shown("python").replace("http://127.0.0.1:8080", running.url).replace("apk_…", running.key())
    assert running.url in program
    assert running.key() in program
    done = subprocess.run(
        [str(python), "-"], input=program, capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"ok\nok\d+\n", done.stdout), done.stdout
