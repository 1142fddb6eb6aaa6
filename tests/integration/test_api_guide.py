"""The guide's examples for developers run as they are printed, against a real gateway."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Gateway, gateway

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = (ROOT / "deploy" / "guides" / "api.md").read_text()
CHAPTERS = ("With the official Python client", "Chats", "Completions")
URL, KEY = "http://127.0.0.1:8080", "apk_…"  # as the guide writes them


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("guide") / "home") as started:
        yield started


def examples(language: str, *chapters: str) -> list[str]:
    parts = [GUIDE.partition(f"\n## {each}\n")[2].partition("\n## ")[0] for each in chapters]
    return [
        block
        for part in parts
        for block in re.findall(rf"^```{language}\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    ]


def test_examples_for_the_official_client_run(running: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as a reader would type them; each of them prints something."""
    blocks = examples("python", *CHAPTERS)
    names: dict[str, Any] = {}
    for block in blocks:
        code = block.replace(URL, running.url).replace(KEY, running.key())
        exec(compile(code, "api.md", "exec"), names)  # noqa: S102 - our own guide
        assert capsys.readouterr().out.strip()

    assert len(blocks) == 5
    names["client"].close()
    assert names["parsed"].choices[0].message.parsed.days == ["Tuesday"]


@pytest.mark.parametrize("chapter", CHAPTERS[1:])
def test_examples_for_the_shell_run(running: Gateway, chapter: str) -> None:
    """Each curl is answered: an object, or a stream that ends as it should."""
    environment = {**os.environ, "URL": running.url, "KEY": running.key()}
    (block,) = examples("sh", chapter)
    commands = re.findall(r"^curl .*?(?=^curl |\Z)", block, re.MULTILINE | re.DOTALL)
    for command in commands:
        said = subprocess.run(
            ["bash", "-ec", command], env=environment, capture_output=True, text=True, check=True
        )
        if "-sN" in command:
            assert said.stdout.endswith("data: [DONE]\n\n")
        else:
            assert len(json.loads(said.stdout)["choices"]) == 2

    assert len(commands) == (2 if chapter == "Chats" else 1)
