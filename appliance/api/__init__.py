"""The HTTP border: an OpenAI-compatible API. pydantic lives only here."""
