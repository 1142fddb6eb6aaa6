"""How much one key may have. Pure: what it has had and the time come in, a decision or a new state goes out.

By the minute there are buckets: each holds as much as its limit and runs full evenly, so that a quiet key
may ask for a minute's worth at once. By the day (of UTC) there are counts. At once are the answers that run
or wait, `n` for a request with `n` choices.

Tokens are known only afterwards. A request that is admitted **reserves** what it may well cost: an estimate
of its prompt, and `max_tokens` for each answer (`UNKNOWN_TOKENS` where it names none). When its answer ends,
what it really cost takes the place of that. A bucket may so be overdrawn, by no more than what ran at once;
then nothing is admitted until it has run full again as far. Who reserves more than a whole bucket is
admitted by a full one: else it never would be. The last requests of a day may overdraw its quota likewise.
Rejected: to take only what was used (who asks a thousand things at once has used nothing yet), and to
refuse what might exceed the rest (a large `max_tokens` is no crime, and most answers stop before it).

Numbered decision tree of `decide`:
1. it has a quota, and what it had today is not known yet  → usage_unknown (the record is being read)
2. today's requests are used up                            → insufficient_quota, until the next day
3. today's tokens are used up, with those reserved         → insufficient_quota, until the next day
4. it asks for more answers than it may ever have at once  → invalid_value (waiting would not help)
5. with those that it has it would have too many at once   → concurrency_limit_exceeded
6. no request is left in its bucket                        → rate_limit_exceeded, until there is one
7. its bucket has fewer tokens than it reserves            → tokens_limit_exceeded, until there are
8. otherwise                                               → None: nothing speaks against it
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final

from appliance.core import ChatMessage, InferenceRequest, Tooling
from appliance.tasks import EmbedTask, RankTask, Task
from appliance.terms import Limits

MINUTE_US: Final = 60_000_000
DAY_US: Final = 86_400_000_000
UNKNOWN_TOKENS: Final = 512  # an answer's, where nobody said how long it may be
_CHARACTERS = 3  # of a token, rather too few: what is estimated too high is given back
_TURN_TOKENS = 8  # what a template writes around one turn


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request wants: so many answers, and tokens as they are reserved."""

    num_answers: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Had:
    """What one key has had, as it stood at `at_us` of the monotonic clock, and on `day` (since the epoch)."""

    at_us: int = 0
    requests: float = 0.0  # of its bucket, and not run full again
    tokens: float = 0.0  # as above, with those that are reserved
    day: int = 0
    day_requests: int = 0
    day_tokens: int = 0  # of what has ended
    reserved: int = 0  # tokens of what runs or waits
    at_once: int = 0  # answers


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Why it may not; `wait_us` says when it may, None: never so."""

    code: str
    reason: str
    wait_us: int | None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """How one bucket stands, as callers are told."""

    limit: int
    remaining: int
    full_in_us: int


def effective(own: Limits, role: Limits) -> Limits:
    """A key's own number takes the place of its role's, whichever is larger."""
    return replace(
        role, **{each.name: value for each in fields(own) if (value := getattr(own, each.name)) is not None}
    )


def day_of(now_us: int) -> int:
    """The day of a moment since the epoch, UTC."""
    return now_us // DAY_US


def at(had: Had, limits: Limits, *, now_us: int, day: int) -> Had:
    """The same at a later moment. A wall clock that was put back begins no new day."""
    passed = max(0, now_us - had.at_us) / MINUTE_US
    is_new = day > had.day
    return replace(
        had,
        at_us=max(now_us, had.at_us),
        requests=_run_full(had.requests, limits.requests_per_minute, passed),
        tokens=_run_full(had.tokens, limits.tokens_per_minute, passed),
        day=day if is_new else had.day,
        day_requests=0 if is_new else had.day_requests,
        day_tokens=0 if is_new else had.day_tokens,
    )


def decide(
    limits: Limits, had: Had, asked: Asked, *, midnight_us: int, turn_us: int, knows_day: bool = True
) -> Exceeded | None:
    """Walk the tree above. `had` is of this moment (`at`); the next day begins in `midnight_us`.

    `turn_us`: in which time one of the key's answers may end, as far as that is known.
    """
    has_quota = limits.requests_per_day is not None or limits.tokens_per_day is not None
    if has_quota and not knows_day:  # 1
        return Exceeded("usage_unknown", "what this key had today is being read from the record", 2_000_000)
    if limits.requests_per_day is not None and had.day_requests >= limits.requests_per_day:  # 2
        return Exceeded("insufficient_quota", "this key has had its requests of today (UTC)", midnight_us)
    if limits.tokens_per_day is not None and had.day_tokens + had.reserved >= limits.tokens_per_day:  # 3
        return Exceeded("insufficient_quota", "this key has had its tokens of today (UTC)", midnight_us)
    if limits.concurrency is not None:
        most = limits.concurrency
        if asked.num_answers > most:  # 4
            reason = f"this key has at most {most} answers at once, and one request of its wants more"
            return Exceeded("invalid_value", reason, None, "n")
        if had.at_once + asked.num_answers > most:  # 5
            reason = f"this key has at most {most} answers at once, running and waiting"
            return Exceeded("concurrency_limit_exceeded", reason, turn_us)
    if limits.requests_per_minute is not None:
        most = limits.requests_per_minute
        if had.requests + 1 > most:  # 6
            wait_us = _time_of(had.requests + 1 - most, most)
            return Exceeded("rate_limit_exceeded", f"this key has {most} requests a minute", wait_us)
    if limits.tokens_per_minute is not None:
        most = limits.tokens_per_minute
        wanted = min(asked.num_tokens, most)
        if had.tokens + wanted > most:  # 7
            wait_us = _time_of(had.tokens + wanted - most, most)
            return Exceeded("tokens_limit_exceeded", f"this key has {most} tokens a minute", wait_us)
    return None  # 8


def admitted(had: Had, asked: Asked) -> Had:
    """Behind its admission: it counts, and its tokens are reserved."""
    return replace(
        had,
        requests=had.requests + 1,
        tokens=had.tokens + asked.num_tokens,
        day_requests=had.day_requests + 1,
        reserved=had.reserved + asked.num_tokens,
        at_once=had.at_once + asked.num_answers,
    )


def ended(had: Had, asked: Asked, *, num_tokens: int) -> Had:
    """Behind its answer: what it really cost counts, on the day of its end."""
    return replace(
        had,
        tokens=max(0.0, had.tokens + num_tokens - asked.num_tokens),
        day_tokens=had.day_tokens + num_tokens,
        reserved=had.reserved - asked.num_tokens,
        at_once=had.at_once - asked.num_answers,
    )


def counted(had: Had, num_requests: int, num_tokens: int) -> Had:
    """With what the record says that it had earlier on the same day."""
    return replace(had, day_requests=had.day_requests + num_requests, day_tokens=had.day_tokens + num_tokens)


def withdrawn(had: Had, asked: Asked, *, is_ours: bool, day: int) -> Had:
    """It was never begun. Where that was our doing (`is_ours`), its request is given back to the minute, too.

    `day`: on which it was admitted.
    """
    back = had.day == day and had.day_requests > 0
    return replace(
        had,
        requests=max(0.0, had.requests - is_ours),
        tokens=max(0.0, had.tokens - asked.num_tokens),
        day_requests=had.day_requests - back,
        reserved=had.reserved - asked.num_tokens,
        at_once=had.at_once - asked.num_answers,
    )


def buckets(limits: Limits, had: Had) -> dict[str, Bucket]:
    """The minute's buckets that there are, by what they hold: `requests`, `tokens`."""
    held = (
        ("requests", limits.requests_per_minute, had.requests),
        ("tokens", limits.tokens_per_minute, had.tokens),
    )
    return {
        name: Bucket(limit, max(0, math.floor(limit - used)), _time_of(used, limit))
        for name, limit, used in held
        if limit is not None
    }


def asked_of(request: InferenceRequest | Task) -> Asked:
    """What a request reserves. Tasks that cost the model no time reserve no tokens."""
    match request:
        case InferenceRequest():
            longest = request.sampling.max_tokens
            answer = UNKNOWN_TOKENS if longest is None else longest
            prompts = sum(_text_tokens(each) for each in request.prompts)
            turns = _turns_tokens(request.messages) + _tools_tokens(request.tooling)
            return Asked(request.num_choices, prompts + turns + answer * request.num_choices)
        case EmbedTask():
            return Asked(1, sum(_text_tokens(each) for each in request.inputs))
        case RankTask():
            each_time = _text_tokens(request.query)
            return Asked(1, sum(each_time + _text_tokens(each) for each in request.documents))
        case _:
            return Asked(1, 0)


def _run_full(used: float, limit: int | None, minutes: float) -> float:
    return 0.0 if limit is None else max(0.0, used - limit * minutes)


def _time_of(count: float, limit: int) -> int:
    """In which time so much runs into a bucket, microseconds."""
    return math.ceil(count * MINUTE_US / limit)


def _text_tokens(text: str | tuple[int, ...]) -> int:
    return len(text) // _CHARACTERS + 1 if isinstance(text, str) else len(text)


def _turns_tokens(messages: tuple[ChatMessage, ...]) -> int:
    return sum(
        _TURN_TOKENS
        + (len(each.content) + len(each.reasoning) + sum(len(call.arguments) for call in each.tool_calls))
        // _CHARACTERS
        for each in messages
    )


def _tools_tokens(tooling: Tooling | None) -> int:
    tools = tooling.tools if tooling is not None else ()
    return sum((len(each.description) + len(each.parameters)) // _CHARACTERS for each in tools)
