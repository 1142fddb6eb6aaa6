"""The README's words to developers: its example runs, and the list of clients is that of the locks."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.harness import gateway

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT / "deploy" / "bootstrap"))

import clients  # noqa: E402 - set-up knows where they are; it is a program of its own and no package

# The client → the locks that hold it.
LISTED = {
    "openai": ("openai-1", "openai-2", "openai-3"),
    "anthropic": ("anthropic",),
    "langchain-openai": ("langchain",),
    "llama-index-llms-openai-like": ("llama-index",),
    "litellm": ("litellm",),
}


def table() -> str:
    rows = ["| client | tested with |", "|---|---|"]
    for name, locks in LISTED.items():
        found = [clients.versions(clients.LOCKS / f"{lock}.txt")[name] for lock in locks]
        rows.append(f"| `{name}` | {', '.join(found)} |")
    packages = json.loads((clients.JAVASCRIPT / "package-lock.json").read_text())["packages"]
    javascript = ("ai", "@ai-sdk/openai-compatible")
    rows += [f"| npm `{name}` | {packages[f'node_modules/{name}']['version']} |" for name in javascript]
    return "\n".join(rows)


def test_list_of_clients_is_that_of_the_locks() -> None:
    """This test says what to paste."""
    shown = re.search(r"<!-- clients -->\n(.*?)\n<!-- /clients -->", README, re.DOTALL)

    assert shown is not None
    assert shown[1] == table()
    assert {lock for locks in LISTED.values() for lock in locks} == {*clients.names()} - {"schemathesis"}


@pytest.mark.integration
def test_example_for_developers_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands there, but for the address and the key."""
    found = re.search(r"<!-- run: developers -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    with gateway(tmp_path / "home") as running:
        code = found[1].replace("http://127.0.0.1:8080", running.url).replace("apk_…", running.key())
        names: dict[str, object] = {}
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
        names["client"].close()  # type: ignore[attr-defined]

    assert capsys.readouterr().out == "ok\n"
