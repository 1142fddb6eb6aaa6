"""Several answers to one question, as one stream: the worker knows requests of one answer only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from appliance.core import Delta, Finished, Started, Timings, Usage

Stream = AsyncGenerator[Started | Delta | Finished, None]


async def merged(streams: Sequence[Stream], n: int) -> Stream:
    """What all say, as it comes, and one `Finished` for all of them at the end.

    Choice `i` answers prompt `i // n`. The first error ends the others and is raised.
    """
    heard: asyncio.Queue[tuple[int, Started | Delta | Finished] | Exception] = asyncio.Queue()
    pumps = [asyncio.create_task(_pump(index, stream, heard)) for index, stream in enumerate(streams)]
    ends: dict[int, Finished] = {}
    try:
        while len(ends) < len(streams):
            item = await heard.get()
            if isinstance(item, Exception):
                raise item
            index, said = item
            if isinstance(said, Finished):
                ends[index] = said
            else:
                yield said
        yield _together([ends[index] for index in range(len(streams))], n)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    index: int, stream: Stream, heard: asyncio.Queue[tuple[int, Started | Delta | Finished] | Exception]
) -> None:
    try:
        async with contextlib.aclosing(stream) as items:
            async for item in items:
                heard.put_nowait((index, item))
    except Exception as error:  # whatever it is, `merged` raises it
        heard.put_nowait(error)


def _together(ends: Sequence[Finished], n: int) -> Finished:
    """One end: a prompt's tokens count once, those of the answers all."""
    firsts = ends[::n]
    return Finished(
        reason=ends[0].reason,
        usage=Usage(
            prompt_tokens=sum(each.usage.prompt_tokens for each in firsts),
            completion_tokens=sum(each.usage.completion_tokens for each in ends),
            cached_tokens=sum(each.usage.cached_tokens for each in firsts),
        ),
        timings=_whole([each.timings for each in ends]),
        reasons=tuple(each.reason for each in ends),
        stops=tuple(stop for each in ends for stop in each.stops),
    )


def _whole(timings: Sequence[Timings]) -> Timings:
    """Of all choices as of one answer: until anything began, until the first token, until the last.

    They were asked at the same moment, so all their clocks began together.
    """
    began = min(each.queue_us for each in timings)
    first = min(each.queue_us + each.prefill_us for each in timings)
    last = max(each.queue_us + each.prefill_us + each.decode_us for each in timings)
    return Timings(queue_us=began, prefill_us=first - began, decode_us=last - first)
