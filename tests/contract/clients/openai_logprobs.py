"""`openai`: how likely each token of a chat was."""

from __future__ import annotations

from tests.contract.clients.checks import check
from tests.contract.clients.openai_made import chat


@check
def logprobs_of_each_token() -> None:
    answer = chat("echo: abc", logprobs=True, top_logprobs=2)
    found = answer.choices[0].logprobs.content
    assert "".join(each.token for each in found) == "abc"
    assert all(each.logprob <= 0 and len(each.top_logprobs) == 2 for each in found)
    assert bytes(found[0].bytes) == b"a"
    chunks = list(chat("echo: abc", logprobs=True, stream=True))
    pieces = [c.logprobs.content for chunk in chunks for c in chunk.choices if c.logprobs]
    assert "".join(each.token for piece in pieces for each in piece or ()) == "abc"
