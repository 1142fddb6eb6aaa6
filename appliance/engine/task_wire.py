"""Tasks and their results between the gateway's words (`tasks`) and the worker's (`messages`). Pure."""

from __future__ import annotations

from appliance.core import FinishReason, Timings, Usage
from appliance.engine import messages
from appliance.engine.wire import tools_to_wire, turn_to_wire
from appliance.tasks import (
    Answered,
    CountTask,
    DetokenizeTask,
    EmbedTask,
    Ranking,
    RankTask,
    Result,
    Task,
    Text,
    TokenCount,
    TokenizeTask,
    Tokens,
    Vectors,
)


def to_wire(task: Task) -> messages.TaskMessage:
    """The message that asks for a task."""
    match task:
        case EmbedTask():
            return messages.Embed(task.request_id, task.inputs, task.dimensions)
        case RankTask():
            return messages.Rank(task.request_id, task.query, task.documents)
        case TokenizeTask():
            source = task.source
            return messages.Tokenize(
                task.request_id,
                source if isinstance(source, str) else tuple(turn_to_wire(each) for each in source),
                add_special=task.add_special,
                parse_special=task.parse_special,
                with_pieces=task.with_pieces,
            )
        case DetokenizeTask():
            return messages.Detokenize(task.request_id, task.tokens)
        case CountTask():
            turns = tuple(turn_to_wire(each) for each in task.messages)
            return messages.Count(task.request_id, turns, tools_to_wire(task.tooling), task.effort)


def to_core(answer: messages.TaskAnswer) -> Answered:
    """The event that ends a task well. Tokens are counted as used where the model computed them."""
    match answer:
        case messages.Embedded():
            return _computed(Vectors(answer.vectors, answer.n_embd), answer)
        case messages.Ranked():
            return _computed(Ranking(answer.scores, answer.method), answer)
        case messages.Tokenized():
            return _told(Tokens(answer.tokens, answer.pieces, answer.n_ctx))
        case messages.Detokenized():
            return _told(Text(answer.text))
        case messages.Counted():
            return _told(TokenCount(answer.num_tokens))


def _computed(result: Result, answer: messages.Embedded | messages.Ranked) -> Answered:
    return Answered(
        reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=answer.prompt_tokens),
        timings=Timings(queue_us=answer.queue_us, prefill_us=answer.compute_us),
        result=result,
    )


def _told(result: Result) -> Answered:
    return Answered(reason=FinishReason.STOP, usage=Usage(), result=result)
