"""`openai`: models, embeddings, and what an input will cost.

Where nothing is said the client asks for base64 by itself and unpacks it behind its own validation, which
only knows numbers: asked to be strict it refuses its own default, of every server. So strict here means
`float`, and what it does by default is checked without.
"""

from __future__ import annotations

import base64
import struct

from tests.contract.clients.checks import MODEL, MODEL_ID, check
from tests.contract.clients.openai_made import chat, client, made

lenient = made(strict=False)


@check
def models_by_id_and_alias() -> None:
    names = [model.id for model in client.models.list()]
    assert {MODEL_ID, "default"} <= set(names)
    assert client.models.retrieve("default").id == "default"
    assert client.models.retrieve(MODEL_ID).owned_by == "appliance"


@check
def embeddings_as_the_client_asks() -> None:
    answer = lenient.embeddings.create(model=MODEL, input=["one", "two"])
    assert [each.index for each in answer.data] == [0, 1]
    assert all(isinstance(each, float) for each in answer.data[0].embedding)
    assert abs(sum(each * each for each in answer.data[0].embedding) - 1) < 1e-3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0


@check
def embeddings_as_numbers_and_as_base64_are_the_same() -> None:
    plain = client.embeddings.create(model=MODEL, input="form 12", encoding_format="float")
    packed = lenient.embeddings.create(model=MODEL, input="form 12", encoding_format="base64")
    data = base64.b64decode(str(packed.data[0].embedding))
    assert list(struct.unpack(f"<{len(data) // 4}f", data)) == plain.data[0].embedding


@check
def embeddings_of_token_ids() -> None:
    answer = client.embeddings.create(model=MODEL, input=[[72, 105], [33]], encoding_format="float")
    assert len(answer.data) == 2


@check
def input_tokens_are_what_a_chat_counts() -> None:
    if not hasattr(client.responses, "input_tokens"):  # younger than the 1.x client
        return
    counted = client.responses.input_tokens.count(model=MODEL, input="how many?")
    assert counted.input_tokens == chat("how many?").usage.prompt_tokens
