"""The public RFC 6962 vectors, all of them, against our verifiers.

Two cases are decided here and in audit/DESIGN.md:

- *A hash has 32 bytes.* Anything else is refused before it is hashed or compared, so that no missing value
  passes for a value. One vector calls two equal texts of 12 bytes equal roots; we refuse it.
- *From the empty tree everything follows, with an empty proof.* C2SP tlog-witness says so, and a witness's
  first visit needs it; the vectors' own library refuses every size1 = 0. The old root must then be the empty
  tree's. The vectors with size1 = 0 are refused all the same: each has a wrong root or a proof.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.audit import merkle

_FOLDER = Path(__file__).parents[1] / "vectors" / "merkle"


def _load(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((_FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return found


INCLUSION = _load("inclusion")
CONSISTENCY = _load("consistency")
NO_HASH = "additional/sizes-are-equal-one-and-proof-is-empty.json"


def _hash(text: str | None) -> bytes:
    return base64.b64decode(text) if text else b""


def _hashes(vector: dict[str, Any]) -> list[bytes]:
    return [_hash(each) for each in vector["proof"] or ()]


def test_the_set_is_whole() -> None:
    """Nothing was left out of the published set."""
    assert (len(INCLUSION), len(CONSISTENCY)) == (98, 98)


@pytest.mark.parametrize("vector", INCLUSION, ids=lambda vector: vector["file"])
def test_inclusion(vector: dict[str, Any]) -> None:
    """Each proof of inclusion holds, or fails, as its vector says."""
    holds = merkle.verify_inclusion(
        vector["leafIdx"],
        vector["treeSize"],
        _hash(vector["leafHash"]),
        _hash(vector["root"]),
        _hashes(vector),
    )

    assert holds is not vector["wantErr"]


@pytest.mark.parametrize("vector", CONSISTENCY, ids=lambda vector: vector["file"])
def test_consistency(vector: dict[str, Any]) -> None:
    """Each proof of consistency holds, or fails, as its vector says, but for the one without a hash."""
    holds = merkle.verify_consistency(
        vector["size1"], vector["size2"], _hash(vector["root1"]), _hash(vector["root2"]), _hashes(vector)
    )

    assert holds is not (vector["wantErr"] or vector["file"] == NO_HASH)


def test_from_the_empty_tree_everything_follows() -> None:
    """Old size 0: an empty proof from the empty tree's root, and nothing else."""
    root = merkle.leaf_hash(b"one")

    assert merkle.verify_consistency(0, 1, merkle.EMPTY_ROOT, root, [])
    assert merkle.verify_consistency(0, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, [])
    assert not merkle.verify_consistency(0, 1, root, root, [])
    assert not merkle.verify_consistency(0, 1, merkle.EMPTY_ROOT, root, [root])
    assert not merkle.verify_consistency(0, 0, root, root, [])
