"""An imported model as the rest of the house knows it, and where its files lie in the store.

One file lies at `models/sha256/ab/<hex>` of its digest. A split model's files keep their names, for llama.cpp
derives the others from the first one's: they lie in the folder `models/split/<hex>` of the model's digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.catalog import store_path
from appliance.config import Home
from appliance.core import ModelPart, ModelSpec
from appliance.models.cards import File
from appliance.models.tables import Imported

UNSAID_N_CTX: Final = 8192  # where a file does not say for how many tokens it was trained


def digest_of_parts(parts: Sequence[File]) -> str:
    """SHA-256 of the text that `sha256sum` would print for these files, hex."""
    return hashlib.sha256("".join(f"{each.sha256}  {each.name}\n" for each in parts).encode()).hexdigest()


def split_folder(home: Home, sha256: str) -> Path:
    """Where the files of a split model with this digest lie."""
    return home.models / "split" / sha256


def spec_of(known: Imported, home: Home) -> ModelSpec:
    """The model, as the catalogue takes it."""
    folder = split_folder(home, known.sha256)
    parts = tuple(ModelPart(folder / each.name, each.sha256, each.size_bytes) for each in known.parts)
    return ModelSpec(
        id=known.id,
        sha256=known.sha256,
        size_bytes=known.size_bytes,
        path=parts[0].path if parts else store_path(home, known.sha256),
        n_ctx=known.card.n_ctx_train or UNSAID_N_CTX,
        licence=known.licence,
        created=known.imported_us // 1_000_000,
        purpose=known.purpose,
        parts=parts,
    )
