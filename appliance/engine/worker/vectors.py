"""What is done with raw vectors: length 1, scores, bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.engine.worker.embedder import Vector


def unit(vector: Vector) -> Vector:
    """The same direction with length 1; a vector of zeros stays one. ValueError for NaN or infinity."""
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(norm):
        raise ValueError("a vector holds numbers that are none")
    return (vector / norm if norm > 0 else vector).astype(np.float32)


def cosines(query: Vector, documents: Sequence[Vector]) -> tuple[float, ...]:
    """The cosine of the angle to `query`, for vectors of length 1: within [-1, 1]."""
    products = np.stack(documents) @ query
    return tuple(float(each) for each in np.clip(products, -1.0, 1.0))


def pack(vectors: Sequence[Vector]) -> bytes:
    """float32, little-endian, one after the other."""
    return np.stack(vectors).astype("<f4").tobytes()
