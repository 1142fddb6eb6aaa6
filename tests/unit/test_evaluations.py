"""What an evaluation came to, on the record: reckoned here, of exactly one file; the gate asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from appliance import config
from appliance.aliasing import Wanted
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import store_path
from appliance.commands import Compared, RecordEvaluation
from appliance.config import Home
from appliance.core import Purpose
from appliance.errors import RequestError
from appliance.evaluating.questions import Named
from appliance.evaluating.scores import Mark
from tests import modelled
from tests.clocks import ManualClock
from tests.records import findings

PASSED = Mark("fee", 3, ("money",), (), "box/7")
FAILED = Mark("form", 1, (), ("regex", "schema"), "box/9")


@pytest.fixture
def alone(home: Home, clock: ManualClock) -> Iterator[Alone]:
    with open_log_alone(home, config.load(home), clock) as opened:
        yield opened


async def take(alone: Alone, home: Home, name: str, **changes: Any) -> Named:
    """A model in the store and on the record."""
    data = f"the bytes of {name}".encode()
    digest = hashlib.sha256(data).hexdigest()
    path = store_path(home, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    known = modelled.imported(name, sha256=digest, size_bytes=len(data), **changes)
    await alone.modelling.import_model(known)
    return Named(name, digest)


def command(model: Named, *marks: Mark, **changes: Any) -> RecordEvaluation:
    fields: dict[str, Any] = {"suite": "desk", "suite_sha256": "5" * 64, "floor_thousandths": 900}
    return RecordEvaluation(model=model, marks=list(marks), **(fields | changes))


async def test_the_score_is_reckoned_where_it_is_recorded(alone: Alone, home: Home) -> None:
    """From the marks; the report says which checks failed and where, and what stood beside it."""
    model, other = await take(alone, home, "newer"), await take(alone, home, "older")
    done = await alone.evaluations.record(command(model, PASSED, FAILED, against=Compared(other, 1000)))
    (kept,) = alone.modelling.register.evaluations(model.id, model.sha256)
    (entry,) = query.search(home.database, kind=Kind.MODEL_EVALUATED)

    assert (kept.score_thousandths, kept.num_cases, kept.num_passed) == (750, 2, 1)
    assert done["score_thousandths"] == 750
    assert entry.public["against_sha256"] == other.sha256
    assert (entry.public["score_thousandths"], entry.public["floor_thousandths"]) == (750, 900)
    report = json.loads(kept.report)
    assert [(each["case"], each["failures"], each["record"]) for each in report["failed"]] == [
        ("form", ["regex", "schema"], "box/9")
    ]
    assert report["against"]["score_thousandths"] == 1000
    assert findings(home) == []


async def test_a_file_that_is_not_known_has_no_score(alone: Alone, home: Home) -> None:
    """Another digest under a known name is another file."""
    model = await take(alone, home, "newer")
    for wrong in (Named("newer", "1" * 64), Named("nobody", model.sha256)):
        with pytest.raises(RequestError) as refused:
            await alone.evaluations.record(command(wrong, PASSED))
        assert refused.value.code == "model_not_found"

    assert query.search(home.database, kind=Kind.MODEL_EVALUATED) == []


async def test_a_model_that_did_worse_than_its_floor_is_not_put_to_work(
    alone: Alone, home: Home, clock: ManualClock
) -> None:
    """And is, once the same suite finds it good enough."""
    model = await take(alone, home, "newer")
    await alone.evaluations.record(command(model, PASSED, FAILED))
    with pytest.raises(RequestError) as refused:
        await alone.aliasing.activate(Wanted("newer", "a test"))
    assert refused.value.code == "below_floor"

    clock.advance(1)
    await alone.evaluations.record(command(model, PASSED))
    await alone.aliasing.activate(Wanted("newer", "a test"))


async def test_with_an_adapter_it_is_the_adapter_that_was_asked(alone: Alone, home: Home) -> None:
    """A bad adapter does not speak against its model, nor a good model for an adapter."""
    model = await take(alone, home, "newer")
    laid = await take(alone, home, "tone", purpose=Purpose.ADAPTER)
    both = Named(model.id, model.sha256, laid.id, laid.sha256)
    await alone.evaluations.record(command(both, FAILED))

    assert alone.modelling.register.evaluations(model.id, model.sha256) == []
    await alone.aliasing.activate(Wanted("newer", "a test"))
    with pytest.raises(RequestError) as refused:
        await alone.aliasing.activate(Wanted("newer", "a test", alias="letters", adapter="tone"))
    assert refused.value.code == "below_floor"
