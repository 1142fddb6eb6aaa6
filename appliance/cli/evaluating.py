"""`appliance model eval`: the agency's own cases, put to a model, beside the model that works today."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from appliance import asking, config, durable, keyring
from appliance.cli.base import FILE, NEW_FILE, done, home_option, json_option, require_new, show, table
from appliance.cli.progress import Progress
from appliance.commands import AskModel, Command, Compared, EmbedTexts, RecordEvaluation
from appliance.config import Home, Settings
from appliance.errors import RequestError, Unavailable
from appliance.evaluating import cases, reporting, running, scores
from appliance.evaluating.cases import Suite
from appliance.evaluating.questions import Embedded, Named, Question, Reply, Texts
from appliance.evaluating.reporting import Outcome
from appliance.evaluating.scores import Change, Score
from appliance.modelling import catalog_of
from appliance.services import run_services

_SPARE_SECONDS: Final = 30  # for the log, and for who asks before
_SHARE = click.FloatRange(0, 1)


@click.command(name="eval")
@click.argument("model")
@click.option(
    "--cases", "cases_path", required=True, type=FILE, help="A suite: one JSON object on each line."
)
@click.option("--against", metavar="MODEL", help="Ask this model, or what this alias stands for, too.")
@click.option(
    "--floor", type=_SHARE, default=0.9, show_default=True, help="The score that has to be reached."
)
@click.option(
    "--tolerance",
    type=_SHARE,
    default=0.05,
    show_default=True,
    help="How much below the score of --against is still good enough.",
)
@click.option(
    "--embeddings", metavar="MODEL", default="default", show_default=True, help="Who compares meanings."
)
@click.option("--report", "report_path", type=NEW_FILE, help="Write every answer to a file of your own.")
@home_option
@json_option
def evaluate(
    model: str,
    cases_path: Path,
    against: str | None,
    floor: float,
    tolerance: float,
    embeddings: str,
    report_path: Path | None,
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Put a suite of cases to a model; exit code 1 where it does worse than its floor.

    Questions and answers are on the record like everybody's, and so is the result. Asks the running gateway,
    behind its callers; where none runs, this program is one until it is done, without callers.

    \b
    Examples: appliance model eval candidate --cases starter.jsonl
              appliance model eval candidate --against default --cases starter.jsonl
    """
    if report_path is not None:
        require_new(report_path)
    suite = cases.parse(_read(cases_path), name=cases_path.stem)
    asked = Asked(
        suite, model, against, embeddings, round(scores.FULL * floor), round(scores.FULL * tolerance)
    )
    outcome, record = asyncio.run(_evaluate(home, asked))
    result = reporting.told(outcome) | {"record": record}
    if report_path is not None:
        data = msgspec.json.format(msgspec.json.encode(reporting.whole(outcome)), indent=2)
        durable.write_file(report_path, data + b"\n")
    show(result, _lines(outcome, record), as_json=as_json)
    if not outcome.is_good_enough:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one evaluation is to do. Thousandths of a score."""

    suite: Suite
    model: str
    against: str | None
    embeddings: str
    floor: int
    tolerance: int


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(cases.MAX_FILE_BYTES + 1)


async def _evaluate(home: Home, asked: Asked) -> tuple[Outcome, str]:
    settings = config.load(home)
    names = [asked.model] if asked.against is None else [asked.against, asked.model]
    _require_models(home, settings, names)
    size = len(asked.suite.cases)
    progress = Progress("asking", of="cases", least=2)
    async with _appliance(home, settings):
        answering = _Socket(home, settings)
        runs = []
        for number, name in enumerate(names):
            shown = functools.partial(_show, progress, number * size, size * len(names))
            runs.append(
                await running.run(asked.suite, name, answering, judge=asked.embeddings, progress=shown)
            )
        old = runs[0] if len(runs) > 1 else None
        outcome = reporting.outcome(asked.suite, runs[-1], old, floor=asked.floor, tolerance=asked.tolerance)
        recorded = await answering.send(_record_of(outcome))
    return outcome, str(recorded["record"])


def _show(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress.update(before + done, total)


def _require_models(home: Home, settings: Settings, names: list[str]) -> None:
    """RequestError before anybody is asked, where a name stands for nothing, or both for one model."""
    catalog = catalog_of(home, settings)
    found = [catalog.resolve(each) for each in names]
    if None in found:
        raise RequestError(
            f"no model or alias is called {names[found.index(None)]}",
            code="model_not_found",
            hint="appliance model list",
        )
    if len(found) > 1 and found[0] == found[1]:
        raise RequestError("both names stand for one model", code="same_model", hint="appliance model list")


@contextlib.asynccontextmanager
async def _appliance(home: Home, settings: Settings) -> AsyncIterator[None]:
    """Something that answers at the home's control socket: the gateway, or this process without callers."""
    if await asyncio.to_thread(asking.gateway_pid, home.control_socket) is not None:
        yield
        return
    if keyring.is_sealed(home):
        keyring.unlock(home)  # while somebody may still be asked
    async with run_services(home, settings):
        yield


class _Socket:
    """Asks at the control socket, a question at a time."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._path = home.control_socket
        self._seconds = (
            settings.engine.load_timeout_seconds
            + settings.engine.request_timeout_seconds
            + settings.limits.max_wait_seconds
            + _SPARE_SECONDS
        )

    async def ask(self, model: str, question: Question) -> Reply:
        return msgspec.convert(await self.send(AskModel(model, question)), Reply)

    async def embed(self, model: str, texts: Texts) -> Embedded:
        return msgspec.convert(await self.send(EmbedTexts(model, texts)), Embedded)

    async def send(self, command: Command) -> dict[str, Any]:
        """What was done. Unavailable where the gateway has stopped meanwhile."""
        answer = await asyncio.to_thread(asking.send, self._path, command, timeout_seconds=self._seconds)
        if answer is None:
            raise Unavailable(
                "the gateway was stopped while it was asked",
                code="stopped",
                hint="nothing of this evaluation was recorded but its questions: evaluate again",
            )
        return done(answer)


def _record_of(outcome: Outcome) -> RecordEvaluation:
    old = outcome.old
    beside = outcome.old_score
    return RecordEvaluation(
        model=outcome.new.model,
        suite=outcome.suite.name,
        suite_sha256=outcome.suite.sha256,
        marks=list(outcome.new.marks),
        floor_thousandths=outcome.floor,
        against=None if old is None or beside is None else Compared(old.model, beside.thousandths),
        embeddings=outcome.new.judge,
    )


def _lines(outcome: Outcome, record: str) -> list[str]:
    """Points by tag, then what came out otherwise, then whether it is good enough."""
    new, old = outcome.new, outcome.old
    names = [_called(each.model) for each in (old, new) if each is not None]
    lines = [
        f"{outcome.suite.name} ({len(outcome.suite.cases)} cases, sha256 {outcome.suite.sha256[:16]}…)",
        *table(("", *names), _points(outcome)),
    ]
    if old is not None:
        rows = [
            (each.case, *(("failed", "passed") if each.is_gained else ("passed", "failed")), _checks(each))
            for each in outcome.changes
        ]
        lines += table(("CASE", *names, "CHECKS THAT FAILED"), rows) if rows else ["no case changed"]
    else:
        failed = [(each.case, ", ".join(each.failures)) for each in new.marks if not each.has_passed]
        lines += table(("CASE", "CHECKS THAT FAILED"), failed) if failed else []
    verdict = "good enough" if outcome.is_good_enough else "NOT good enough"
    reached = f"{_share(outcome.score)}, its floor is {outcome.floor / scores.FULL:.3f}"
    return [*lines, f"{names[-1]} is {verdict}: {reached}", f"recorded as {record}"]


def _called(model: Named) -> str:
    return f"{model.id} with {model.adapter}" if model.adapter else model.id


def _points(outcome: Outcome) -> list[tuple[str, ...]]:
    runs = [each.marks for each in (outcome.old, outcome.new) if each is not None]
    rows: list[tuple[str, ...]] = [("all", *(_points_of(scores.score(each)) for each in runs))]
    tags = [scores.by_tag(each) for each in runs]
    return rows + [(tag, *(_points_of(each[tag]) for each in tags)) for tag in tags[0]]


def _points_of(score: Score) -> str:
    return f"{score.num_passed} of {score.num_cases} ({_share(score)})"


def _share(score: Score) -> str:
    return f"{score.thousandths / scores.FULL:.3f}"


def _checks(change: Change) -> str:
    return ", ".join(change.failures)
