"""The openings of tasks: which endpoint stands in the header, what was asked is sealed. Pure.

Their closings are those of every request (`entry.closed`).
"""

from __future__ import annotations

from typing import Any

from appliance.audit.entry import Entry, kept, marked, person_of, session_of, subject_of, user_of
from appliance.audit.kinds import Kind
from appliance.audit.questions import tooling, turns
from appliance.core import Caller, ModelSpec, Principal
from appliance.tasks import CountTask, DetokenizeTask, EmbedTask, RankTask, Task, TokenizeTask


def opened(task: Task, principal: Principal, caller: Caller, model: ModelSpec) -> Entry:
    """The write-ahead record of a task: durable before the worker sees any of it (law 1)."""
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={
            "endpoint": str(task.endpoint),
            "model": model.id,
            "model_sha256": model.sha256,
            "stream": 0,
            **marked(principal.terms.capture),
        },
        content={
            **kept(principal, _asked(task), task.annotations),
            "principal": person_of(principal),
            "caller": caller.told(),
        },
        request_id=task.request_id,
        actor=principal.key_id,
        user=user_of(task.annotations),
        session=session_of(task.annotations),
        address=caller.address,
        subject=subject_of(principal, task.annotations),
    )


def _asked(task: Task) -> dict[str, Any]:
    match task:
        case EmbedTask():
            inputs = [each if isinstance(each, str) else list(each) for each in task.inputs]
            return {"inputs": inputs, "dimensions": task.dimensions}
        case RankTask():
            return {"query": task.query, "documents": list(task.documents)}
        case TokenizeTask():
            flags = {"add_special": task.add_special, "parse_special": task.parse_special}
            if isinstance(task.source, str):
                return {"inputs": [task.source], **flags}
            return {"messages": turns(task.source)}
        case DetokenizeTask():
            return {"inputs": [list(task.tokens)]}
        case CountTask():
            return {
                "messages": turns(task.messages),
                **({"tooling": tooling(task.tooling)} if task.tooling else {}),
                **({"effort": task.effort} if task.effort else {}),
            }
