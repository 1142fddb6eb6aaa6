"""What an opened exchange looks like on a terminal, and in JSON."""

from __future__ import annotations

from typing import Any

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
    answer = "".join(
        str((each.content or {}).get("text", "") or (each.content or {}).get("output", "")) for each in opened
    )
    if answer:
        lines += ["── answer", *(f"   {line}" for line in answer.split("\n"))]
    if told := asked.vectors_line([each.record.public for each in opened]):
        lines.append(told)
    return lines


def _content_lines(content: dict[str, Any] | None) -> list[str]:
    lines = []
    for name, value in (content or {}).items():
        if name == "messages":
            # What begins a line is ours: a prompt may hold lines that look like a record's.
            lines += [
                f"   {turn['role']}> " + turn["content"].replace("\n", "\n" + " " * 9) for turn in value
            ]
        elif name not in {"text", "output"}:
            lines += [f"   {on_one_line(line)}" for line in asked.lines_of(name, value)]
    return lines
