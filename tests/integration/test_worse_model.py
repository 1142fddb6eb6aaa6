"""A worse quantization of the starter model: the agency's cases tell it from the good one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import file_digest, store_path
from appliance.cli import program as everything
from appliance.config import Home
from appliance.core import Purpose
from appliance.errors import RequestError
from appliance.gguf import header
from appliance.models import tables
from appliance.models.cards import Card
from appliance.models.tables import Imported
from tests import records, worse
from tests.harness import keep_tuning
from tests.homes import make_home

pytestmark = pytest.mark.model
SUITE = Path(__file__).resolve().parent.parent.parent / "deploy/evals/starter.jsonl"


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(everything, ["model", *arguments, "--home", str(home.root), "--json"])


def take(home: Home, path: Path) -> Imported:
    """Into the store and on the record; nothing answers with it yet."""
    digest = file_digest(path)
    kept = store_path(home, digest)
    kept.parent.mkdir(parents=True, exist_ok=True)
    path.rename(kept)
    known = Imported(
        id="starter-q2",
        sha256=digest,
        size_bytes=kept.stat().st_size,
        purpose=Purpose.CHAT,
        file=path.name,
        licence="Apache-2.0",
        origin="made by a test",
        card=Card(n_ctx_train=8192),
    )

    async def act() -> None:
        with open_log_alone(home, config.load(home)) as alone:
            await alone.modelling.import_model(known)

    asyncio.run(act())
    keep_tuning(home, known.id)
    return known


def test_a_worse_quantization_falls_below_its_floor(tmp_path: Path) -> None:
    """Same weights, same cases, fewer bits: the starter model passes and its two-bit copy does not; the
    record says so of exactly that file, and no alias can be given to it.
    """
    home = make_home(tmp_path / "home")
    keep_tuning(home)
    path = worse.quantized(tmp_path / "starter-q2.gguf")
    assert header.read(path).quant == "Q2_K"
    known = take(home, path)
    done = run(home, "eval", known.id, "--against", "default", "--cases", str(SUITE))
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)

    assert found["against"]["score"] > 0.95, found["against"]
    assert found["score"] < 0.75
    assert found["floor"] == max(0.9, round(found["against"]["score"] - 0.05, 3))
    assert len(found["against"]["lost"]) >= 4
    assert {"plural-mouse", "author"} & set(found["against"]["lost"])
    with db.reading(db.of(home, config.load(home))) as connection:
        (kept,) = tables.load_evaluations(connection)
    assert (kept.model, kept.sha256) == (known.id, known.sha256)
    assert kept.score_thousandths < kept.floor_thousandths
    (entry,) = query.search(records.place(home), kind=Kind.MODEL_EVALUATED, limit=9)
    assert entry.public["model_sha256"] == known.sha256
    assert entry.public["against_sha256"] == found["against"]["model_sha256"]
    answered = {each.public["model_sha256"] for each in records.openings(home)}
    assert answered == {known.sha256, found["against"]["model_sha256"]}
    refused = run(home, "activate", known.id, "--why", "it is smaller")
    assert isinstance(refused.exception, RequestError)
    assert refused.exception.code == "below_floor"
    records.assert_verified(home)
