"""Query and document as one input of a model with a ranking head. Pure.

The prompt is the file's "rerank" template, or [BOS] query [EOS] [SEP] document [EOS] with those tokens
that the vocabulary adds (llama.cpp, tools/server/server-common.cpp, format_prompt_rerank). Other than
there, query and document are tokenised as plain text: a caller's words never become control tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from appliance.engine.worker.embedder import RerankShape

_HOLES = re.compile(r"\{(query|document)\}")
# text, whether its control tokens count → token ids
Tokenize = Callable[[str, bool], list[int]]


def pair(shape: RerankShape, query: str, document: str, tokenize: Tokenize) -> list[int]:
    """The tokens of one pair."""
    if not shape.template:
        return [
            *shape.head,
            *tokenize(query, False),  # noqa: FBT003 - see Tokenize
            *shape.middle,
            *tokenize(document, False),  # noqa: FBT003
            *shape.tail,
        ]
    tokens: list[int] = []
    # With its group the split gives text, name, text, name, …, text.
    for at, piece in enumerate(_HOLES.split(shape.template)):
        if at % 2:
            tokens += tokenize(query if piece == "query" else document, False)  # noqa: FBT003
        elif piece:
            tokens += tokenize(piece, True)  # noqa: FBT003
    return tokens
