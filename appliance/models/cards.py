"""What is stored of models as JSON: their files, what their headers say, what a name stands for."""

from __future__ import annotations

from typing import Final

import msgspec

ONE: Final = 1000  # thousandths: a whole scale, a perfect score


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a split model."""

    name: str
    sha256: str
    size_bytes: int


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model says of itself in its header, as far as people and the catalogue want it.

    Fields that a later release added are passed over.
    """

    architecture: str = ""
    name: str = ""
    quantization: str = ""
    num_parameters: int = 0
    n_ctx_train: int = 0
    n_embd: int = 0
    num_tokens: int = 0  # of the vocabulary
    template_sha256: str = ""  # of the chat template; empty: it has none


class Pointed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a name stands for."""

    model: str
    sha256: str
    adapter: str = ""
    adapter_sha256: str = ""
    scale_thousandths: int = ONE
