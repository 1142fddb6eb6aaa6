"""The half of the port that any thread may use: texts to tokens and back, of one loaded model."""

from __future__ import annotations

from appliance.engine.worker.llama.model import LoadedModel


class Words:
    """What every backend of this library says of its vocabulary."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        return self._loaded.tokenize(text, parse_special=parse_special, add_bos=add_bos)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self._loaded.encode(text, add_special=add_special, parse_special=parse_special)

    def piece(self, token: int) -> bytes:
        return self._loaded.piece(token)

    def spell(self, token: int) -> bytes:
        return self._loaded.read_piece(token, special=True)

    def is_end(self, token: int) -> bool:
        return self._loaded.is_end(token)

    def vocabulary(self) -> tuple[list[bytes], list[int]]:
        tokens = range(self._loaded.n_vocab)
        pieces = [b"" if self._loaded.is_control(token) else self._loaded.piece(token) for token in tokens]
        return pieces, [token for token in tokens if self._loaded.is_end(token)]

    def control_texts(self) -> list[str]:
        return self._loaded.control_texts()
