"""How a caller's limits by the minute stand, in the headers that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.policy.limits import Bucket

_UNITS = ((3_600_000, "h"), (60_000, "m"), (1_000, "s"))


def headers_of(buckets: Mapping[str, Bucket]) -> list[tuple[bytes, bytes]]:
    """`x-ratelimit-…-requests` and `-tokens`, of the limits that there are. `reset`: until it is full."""
    told = []
    for name, bucket in buckets.items():
        for what, value in (
            ("limit", str(bucket.limit)),
            ("remaining", str(bucket.remaining)),
            ("reset", duration(bucket.full_in_us)),
        ):
            told.append((f"x-ratelimit-{what}-{name}".encode("ascii"), value.encode("ascii")))
    return told


def duration(microseconds: int) -> str:
    """As Go writes it, to the millisecond: `850ms`, `12s`, `1m3.5s`."""
    left = -(-microseconds // 1000)
    if left < 1000:
        return f"{left}ms"
    text = ""
    for size, unit in _UNITS[:-1]:
        if left >= size:
            text += f"{left // size}{unit}"
            left %= size
    seconds, thousandths = divmod(left, 1000)
    rest = f".{thousandths:03}".rstrip("0") if thousandths else ""
    return f"{text}{seconds}{rest}s"
