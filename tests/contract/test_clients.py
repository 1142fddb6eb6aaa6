"""Clients that others wrote, each in an environment of its own, against one real gateway.

Each program prints one line for each of its checks; here every check is a test. The programs have no
network: whatever calls out is refused and makes the test of its client fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.contract import running
from tests.contract.running import Clients
from tests.harness import gateway

OPENAI = (
    "openai_chat",
    "openai_logprobs",
    "openai_tools",
    "openai_completions",
    "openai_responses",
    "openai_responses_tools",
    "openai_rest",
    "openai_errors",
)
CLIENTS: Mapping[str, tuple[str, ...]] = {
    "openai-1": OPENAI,
    "openai-2": OPENAI,
    "openai-3": OPENAI,
    "langchain": ("langchain_chat", "langchain_tools", "langchain_responses"),
    "llama-index": ("llama_index_chat", "llama_index_tools", "llama_index_completions"),
    "litellm": ("litellm_chat", "litellm_tools", "litellm_responses"),
    "anthropic": ("anthropic_messages", "anthropic_tools"),
    "js": ("ai_sdk", "ai_tools"),
}
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    folder = tmp_path_factory.mktemp("clients")
    with gateway(folder / "home", toml="[audit]\nsearches_per_hour = 2\n") as started:
        yield Clients(started, folder, CLIENTS)


@pytest.mark.parametrize(("client", "check"), running.cases(CLIENTS))
def test_client_is_content(ran: Clients, client: str, check: str) -> None:
    """What a client's program checks holds, in the client's own words."""
    found = ran.found(client)

    assert check in found
    assert found[check] is None


@pytest.mark.parametrize("client", CLIENTS)
def test_client_calls_nobody_but_the_appliance(ran: Clients, client: str) -> None:
    """No name was asked for and no connection tried that leads outside."""
    assert ran.found(client)["network"] is None


@pytest.mark.parametrize("client", CLIENTS)
def test_guard_of_the_client_is_in_force(ran: Clients, client: str) -> None:
    """Its control: in the same environment a call outside is refused, and noticed."""
    found = ran.again().found(client, "outside")

    assert "tests reach nothing but loopback" in str(found["outside.calls_outside"])
    assert found["network"]


def test_every_environment_is_used() -> None:
    """A lock that no test runs is work for nobody."""
    assert running.client_names() - {"schemathesis"} == CLIENTS.keys()
