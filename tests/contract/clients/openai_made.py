"""The official client as it is made in these programs: it validates every answer against its own types."""

from __future__ import annotations

from typing import Any

import openai

from tests.contract.clients.checks import KEY, MODEL, URL

BASE_URL = f"{URL}/v1"


def made(*, strict: bool = True, **options: Any) -> openai.OpenAI:
    settings: dict[str, Any] = {"base_url": BASE_URL, "api_key": KEY, "max_retries": 0, **options}
    return openai.OpenAI(_strict_response_validation=strict, **settings)


def made_async(**options: Any) -> openai.AsyncOpenAI:
    settings: dict[str, Any] = {"base_url": BASE_URL, "api_key": KEY, "max_retries": 0, **options}
    return openai.AsyncOpenAI(_strict_response_validation=True, **settings)


client = made()


def chat(text: str, **options: Any) -> Any:
    """One question; whatever the client makes of the answer."""
    return client.chat.completions.create(
        model=options.pop("model", MODEL), messages=[{"role": "user", "content": text}], **options
    )
