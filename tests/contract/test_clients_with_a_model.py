"""The same clients over the real starter model: fewer checks, and nothing scripted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.contract import running
from tests.contract.running import Clients
from tests.harness import gateway

CLIENTS: Mapping[str, tuple[str, ...]] = {
    "openai-1": ("real_openai",),
    "openai-2": ("real_openai",),
    "openai-3": ("real_openai",),
    "langchain": ("real_langchain",),
    "llama-index": ("real_llama_index",),
    "litellm": ("real_litellm",),
    "anthropic": ("real_anthropic",),
    "js": ("real_ai",),
}

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    folder = tmp_path_factory.mktemp("clients")
    with gateway(folder / "home", worker="model") as started:
        started.wait_ready(seconds=60)
        yield Clients(started, folder, CLIENTS)


@pytest.mark.parametrize(("client", "check"), running.cases(CLIENTS))
def test_client_is_content_with_a_model(ran: Clients, client: str, check: str) -> None:
    """Whatever a model of 135 million parameters says, its shape is what the client expects."""
    found = ran.found(client)

    assert check in found
    assert found[check] is None
