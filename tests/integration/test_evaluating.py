"""`appliance model eval` through a whole appliance: asked like everybody, marked, and on the record."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance import asking, config, db
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.cli import program as everything
from appliance.config import Home
from appliance.core import Genre
from appliance.models import tables
from appliance.models.tables import Evaluation
from appliance.services import run_services
from tests import records
from tests.guarded import RULES, publish
from tests.harness import Gateway, gateway
from tests.harness import appliance as program
from tests.homes import make_home

pytestmark = pytest.mark.integration

EUROS = {"type": "object", "properties": {"euros": {"type": "integer"}}, "required": ["euros"]}
CASES: list[dict[str, Any]] = [
    {
        "id": "fee",
        "prompt": "echo: It is 35 euros.",
        "checks": {"regex": r"\b35\b"},
        "tags": ["fees"],
        "weight": 4,
    },
    {"id": "brief", "prompt": "echo: zinnia", "checks": {"exact": "zinnia", "no_regex": "sorry"}},
    {"id": "form", "prompt": "How much?", "checks": {"schema": EUROS}, "structured": True, "max_tokens": 400},
    {
        "id": "near",
        "prompt": "echo: the town hall opens at nine",
        "checks": {"similarity": {"to": ["x", "the town hall opens at nine"], "at_least": 0.95}},
    },
    {"id": "refused", "prompt": "echo: larkspur", "checks": {"refused": True}},
    {"id": "wrong", "prompt": "echo: 36 euros", "checks": {"exact": "35 euros"}, "tags": ["fees"]},
]
WORDS = ("zinnia", "the town hall", "35 euros", "larkspur")  # of the cases, and nowhere else


def suite(folder: Path, cases: list[dict[str, Any]]) -> Path:
    path = folder / "desk.jsonl"
    path.write_text("\n".join(map(json.dumps, cases)), encoding="utf-8")
    return path


def run(home: Home, path: Path, *options: str) -> Result:
    arguments = ["model", "eval", "default", "--cases", str(path), "--home", str(home.root), *options]
    return CliRunner().invoke(everything, arguments, catch_exceptions=False)


def evaluations(home: Home) -> list[Evaluation]:
    with db.reading(db.of(home, config.load(home))) as connection:
        return tables.load_evaluations(connection)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("evaluating") / "home") as started:
        publish(started, Genre.GUARDRAILS, "default", RULES)
        yield started


def test_every_kind_of_check_through_a_gateway(running: Gateway, tmp_path: Path) -> None:
    """Patterns, forms, meanings and refusals; the weights make the score, and the score the exit code."""
    report = tmp_path / "answers.json"
    done = run(running.home, suite(tmp_path, CASES), "--json", "--floor", "0.8", "--report", str(report))
    found = json.loads(done.stdout)

    assert done.exit_code == 0, done.output
    assert [(each["case"], each["checks"]) for each in found["failed"]] == [("wrong", ["exact"])]
    assert (found["num_cases"], found["num_passed"], found["score"]) == (6, 5, 0.888)
    assert found["tags"] == {"fees": {"num_cases": 2, "num_passed": 1, "score": 0.8}}
    assert found["embeddings"]["model"] == found["model"]
    answers = {each["case"]: each["answers"][0] for each in json.loads(report.read_bytes())["cases"]}
    assert answers["brief"]["text"] == "zinnia"
    assert json.loads(answers["form"]["text"]).keys() >= {"euros"}
    assert answers["refused"]["refused"]
    assert report.stat().st_mode & 0o077 == 0


def test_the_result_is_on_the_record_and_in_its_row(running: Gateway, tmp_path: Path) -> None:
    """Suite, model, score and floor; a failed case says where its answer stands; no words of any."""
    before = len(evaluations(running.home))
    done = run(running.home, suite(tmp_path, CASES), "--json")
    found = json.loads(done.stdout)
    kept = evaluations(running.home)[before:]

    assert done.exit_code == 1
    assert not found["is_good_enough"]
    assert [(each.suite, each.suite_sha256) for each in kept] == [("desk", found["suite_sha256"])]
    assert (kept[0].model, kept[0].sha256) == (found["model"], found["model_sha256"])
    assert (kept[0].score_thousandths, kept[0].floor_thousandths) == (888, 900)
    (entry,) = query.search(records.place(running.home), kind=Kind.MODEL_EVALUATED, limit=1)
    assert entry.public["row_id"] == kept[0].id
    assert (entry.public["score_thousandths"], entry.public["floor_thousandths"]) == (888, 900)
    assert json.loads(kept[0].report)["failed"][0]["record"] == found["failed"][0]["record"]
    stored = running.home.database.read_bytes() + running.log_file.read_bytes()
    assert not [each for each in WORDS if each.encode() in stored]
    records.assert_verified(running.home)


def test_each_question_has_an_opening_of_its_own(running: Gateway, tmp_path: Path) -> None:
    """Before the worker sees it, as everybody's: by a caller who is nobody's key, to be replayed."""
    before = len(records.openings(running.home))
    done = run(running.home, suite(tmp_path, CASES), "--json")
    found = records.openings(running.home)
    opened = found[: len(found) - before]  # the latest come first
    identity = str(running.home.keys / "dev-auditor.identity")
    arguments = ("--identity", identity, "--purpose", "a test", "--json")
    shown = program("audit", "show", str(opened[-1].request_id), *arguments, home=running.home)
    content = json.loads(shown.stdout)["records"][0]["content"]

    # Six questions, and one comparison of meanings behind them.
    assert [each.public["endpoint"] for each in opened] == ["embeddings"] + ["chat"] * 6
    assert content["principal"]["key_id"] == "evaluation"
    assert content["annotations"] == {
        "evaluation": json.loads(done.stdout)["suite_sha256"],
        "case": "fee",
    }
    assert float(content["sampling"]["temperature"]) == 0
    assert content["setup"]


def test_an_appliance_without_a_gateway_answers_for_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else can ask it meanwhile, and nothing of it stays behind."""
    worker = [sys.executable, "-m", "tests.fakes.fake_worker"]
    alone = functools.partial(run_services, worker_command=worker)
    monkeypatch.setattr("appliance.cli.evaluating.run_services", alone)
    home = make_home(tmp_path / "home")
    done = run(home, suite(tmp_path, CASES[:2]))

    assert done.exit_code == 0, done.output
    assert "good enough: 1.000, its floor is 0.900" in done.stdout
    assert [each.score_thousandths for each in evaluations(home)] == [1000]
    assert asking.gateway_pid(home.control_socket) is None
    records.assert_verified(home)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--against", "default"], "both names stand for one model"),
        (["--against", "no-such"], "no model or alias"),
    ],
)
def test_what_can_not_be_compared_is_said_before_anybody_is_asked(
    running: Gateway, tmp_path: Path, options: list[str], problem: str
) -> None:
    """A name twice, or one that stands for nothing."""
    before = len(records.openings(running.home))
    arguments = ["model", "eval", "default", "--cases", str(suite(tmp_path, CASES)), *options]
    done = CliRunner().invoke(everything, [*arguments, "--home", str(running.home.root)])

    assert problem in str(done.exception)
    assert len(records.openings(running.home)) == before
