"""What an opened exchange looks like on a terminal, and in JSON."""

from __future__ import annotations

from typing import Any

from appliance.audit import contents
from appliance.audit.query import Opened
from appliance.cli import asked
from appliance.cli.base import on_one_line, when


def told(opened: list[Opened], proofs: dict[int, tuple[int, bool]]) -> list[str]:
    """Entry by entry; by its number, each one's tree and whether it is included. The answer is joined."""
    lines = []
    for each in opened:
        size, included = proofs[each.record.seq]
        mark = f"included in the tree of {size}" if included else "NOT INCLUDED IN THE TREE"
        lines.append(f"── {each.record.kind}  seq {each.record.seq}  {when(each.record.ts)}  {mark}")
        lines += [f"   {name}: {on_one_line(str(value))}" for name, value in each.record.public.items()]
        lines += _content_lines(each.content)
        if each.erased_by is not None:
            lines.append(f"   content: erased, entry {each.erased_by} says why")
    if not contents.are_words_kept([each.record for each in opened]):
        lines.append("── of this key no words are kept, neither of questions nor of answers")
    lines += _answer_lines(opened)
    if told := asked.vectors_line([each.record.public for each in opened]):
        lines.append(told)
    return lines


def _answer_lines(opened: list[Opened]) -> list[str]:
    """Each choice's answer, joined, and whether they are what the closing's digest is over."""
    answers = contents.answers(each.content for each in opened)
    lines = []
    for choice, answer in answers.items():
        which = f", choice {choice}" if len(answers) > 1 else ""
        lines += [f"── answer{which}", *(f"   {line}" for line in answer.split("\n"))] if answer else []
    over = " (over all choices, one after the other)" if len(answers) > 1 else ""
    match contents.matches_digest(opened):
        case True:
            lines.append(f"── as output_sha256 says{over}")
        case False:
            lines.append(f"── NOT WHAT OUTPUT_SHA256 SAYS{over}")
        case None:
            pass
    if told := contents.logprobs(each.content for each in opened):
        num = sum(map(len, told.values()))
        lines.append(f"── log-probabilities of {num} tokens: --json has them")
    return lines


def _content_lines(content: dict[str, Any] | None) -> list[str]:
    lines = []
    for name, value in (content or {}).items():
        if name == "messages":
            # What begins a line is ours: a prompt may hold lines that look like a record's.
            turns = contents.turns({"messages": value})
            lines += [
                f"   {on_one_line(turn.role)}> " + turn.text.replace("\n", "\n" + " " * 9) for turn in turns
            ]
        elif name == "tooling":
            tools = contents.tools({"tooling": value})
            lines += [
                f"   tool {on_one_line(each.role)}> " + each.text.replace("\n", "\n" + " " * 9)
                for each in tools
            ]
            terms = contents.terms({"tooling": value})
            lines += [f"   {on_one_line(f'{term}: {said}')}" for term, said in terms.items()]
        elif name not in contents.STREAMED:
            lines += [f"   {on_one_line(line)}" for line in asked.lines_of(name, value)]
    return lines
