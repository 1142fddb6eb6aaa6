"""An evaluation's result goes on the record, with its row: what an activation asks for."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from appliance import db
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.commands import RecordEvaluation
from appliance.errors import RequestError
from appliance.evaluating import scores
from appliance.modelling import PROGRAM, Modelling
from appliance.models import tables
from appliance.models.tables import Evaluation


class Evaluations:
    """Keeps what evaluations came to. The picture of them is `modelling`'s."""

    def __init__(self, *, audit: AuditLog, modelling: Modelling, clock: Clock) -> None:
        self._audit = audit
        self._modelling = modelling
        self._clock = clock

    async def record(self, command: RecordEvaluation) -> dict[str, Any]:
        """The score follows from the marks, here. Of a model with an adapter it is the adapter's: the model
        itself was not asked. RequestError where the file is not known.
        """
        asked = command.model
        name, sha256 = (asked.adapter, asked.adapter_sha256) if asked.adapter else (asked.id, asked.sha256)
        spec = self._modelling.catalog.find(name)
        if spec is None or spec.sha256 != sha256:
            raise RequestError(
                "no model is known by this id with this digest",
                code="model_not_found",
                hint="appliance model list",
            )
        score = scores.score(command.marks)
        known = Evaluation(
            id=secrets.token_hex(16),
            model=name,
            sha256=sha256,
            suite=command.suite,
            suite_sha256=command.suite_sha256,
            num_cases=score.num_cases,
            num_passed=score.num_passed,
            score_thousandths=score.thousandths,
            floor_thousandths=command.floor_thousandths,
            report=_report(command),
            evaluated_us=self._clock.now_us(),
            evaluated_by=PROGRAM,
        )
        row = tables.evaluation_row(known)
        receipt = await self._audit.append(
            entry.state_changed(
                Kind.MODEL_EVALUATED,
                table=tables.EVALUATION,
                row_id=known.id,
                row=row,
                public={
                    "model": known.model,
                    "model_sha256": known.sha256,
                    "suite_sha256": known.suite_sha256,
                    "num_cases": known.num_cases,
                    "num_passed": known.num_passed,
                    "score_thousandths": known.score_thousandths,
                    "floor_thousandths": known.floor_thousandths,
                    "against_sha256": command.against.model.sha256 if command.against is not None else "",
                },
                content={"suite": known.suite, "report": msgspec.json.decode(known.report)},
                effects=lambda connection, _seq: db.put_row(connection, tables.evaluation, row),
            )
        )
        self._modelling.register.put_evaluation(known)  # after the commit
        return {"id": known.id, "record": receipt.record, "score_thousandths": known.score_thousandths}


def _report(command: RecordEvaluation) -> str:
    """Which cases failed, at which checks, and where each stands on the record; no words of theirs."""
    told = {
        "model": command.model,
        "against": command.against,
        "embeddings": command.embeddings,
        "failed": [each for each in command.marks if not each.has_passed],
    }
    return msgspec.json.encode(told).decode()
