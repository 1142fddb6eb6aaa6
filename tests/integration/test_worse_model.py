"""A worse quantization of the starter model: the agency's cases tell it from the good one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import file_digest, store_path
from appliance.cli import program as everything
from appliance.config import Home
from appliance.core import Purpose
from appliance.gguf import header
from appliance.models import tables
from appliance.models.cards import Card
from appliance.models.tables import Imported
from tests import modelled, records, worse
from tests.harness import keep_tuning
from tests.homes import make_home

pytestmark = pytest.mark.model
SUITE = Path(__file__).resolve().parent.parent.parent / "deploy/evals/starter.jsonl"


def evaluated(home: Home, model: str, *options: str) -> tuple[int, dict[str, Any]]:
    arguments = ["model", "eval", model, "--cases", str(SUITE), "--home", str(home.root), "--json", *options]
    done = CliRunner().invoke(everything, arguments, catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


def put_to_work(home: Home, path: Path) -> Imported:
    """In the store, on the record, and behind `default`."""
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
            await modelled.put_alias(alone, modelled.alias("default", known))

    asyncio.run(act())
    return known


def test_a_worse_quantization_falls_below_its_floor(tmp_path: Path) -> None:
    """Same weights, same cases, fewer bits: the starter model passes, its two-bit copy does not, and both
    results stand on the record with their digests.
    """
    home = make_home(tmp_path / "home")
    keep_tuning(home)
    code, good = evaluated(home, "default")
    assert (code, good["is_good_enough"]) == (0, True), good["failed"]

    path = worse.quantized(tmp_path / "starter-q2.gguf")
    assert header.read(path).quant == "Q2_K"
    known = put_to_work(home, path)
    keep_tuning(home)
    code, bad = evaluated(home, known.id)

    assert (code, bad["is_good_enough"]) == (1, False)
    assert bad["score"] < 0.75
    assert good["score"] > 0.95
    assert bad["suite_sha256"] == good["suite_sha256"]
    with db.reading(db.of(home, config.load(home))) as connection:
        kept = tables.load_evaluations(connection)
    assert [(each.sha256, each.score_thousandths >= each.floor_thousandths) for each in kept] == [
        (good["model_sha256"], True),
        (known.sha256, False),
    ]
    entries = query.search(records.place(home), kind=Kind.MODEL_EVALUATED, limit=9)
    assert [each.public["model_sha256"] for each in entries] == [known.sha256, good["model_sha256"]]
    records.assert_verified(home)
