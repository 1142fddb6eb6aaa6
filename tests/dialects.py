"""Vocabularies of one token for each byte, with the control tokens of a family; and golden transcripts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from appliance import dialects
from appliance.core import CallPart, Part, ReasoningPart, TextPart, Tool
from appliance.engine.messages import LoadModel
from appliance.engine.question import Call, Tools, ToolSpec, Turn
from tests.fakes.fake_backend import FakeBackend

VECTORS = Path(__file__).with_name("vectors") / "dialects"
LOAD = LoadModel("fake", "", 8192, 4, 64, 1, 1, 0, 8, 150_000, 512)
_FIRST = 300  # ids of control tokens
END = _FIRST


class Spoken(FakeBackend):
    """A backend whose template and control tokens are those of a family. The first control ends an answer."""

    def __init__(self, template: str, controls: Sequence[str]) -> None:
        super().__init__(LOAD)
        self._ids = {text: _FIRST + at for at, text in enumerate(controls)}
        self._texts = {number: text for text, number in self._ids.items()}
        self._pattern = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))))
        self.model = replace(
            self.model, template=template, n_vocab=_FIRST + len(controls), bos_text="", eos_text=controls[0]
        )

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        del add_bos
        if not parse_special:
            return list(text.encode())
        tokens: list[int] = []
        position = 0
        for match in self._pattern.finditer(text):
            tokens += [*text[position : match.start()].encode(), self._ids[match[0]]]
            position = match.end()
        return tokens + list(text[position:].encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def spell(self, token: int) -> bytes:
        return self._texts[token].encode() if token in self._texts else self.piece(token)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Tokens as text, control tokens spelt."""
        return b"".join(map(self.spell, tokens)).decode()

    def is_end(self, token: int) -> bool:
        return token == END

    def vocabulary(self) -> tuple[list[bytes], list[int]]:
        return [self.piece(token) for token in range(self.model.n_vocab)], [END]

    def control_texts(self) -> Sequence[str]:
        return sorted(self._ids, key=len, reverse=True)


@dataclass(frozen=True)
class Transcript:
    """One golden file: a template, a conversation and its prompt, answers and their parts."""

    name: str
    said: dict[str, Any]

    @property
    def template(self) -> str:
        return "".join(self.said["template"])

    @property
    def backend(self) -> Spoken:
        return Spoken(self.template, self.said["controls"])

    @property
    def turns(self) -> list[Turn]:
        return [
            Turn(
                each["role"],
                each.get("content", ""),
                tuple(Call(*call) for call in each.get("calls", ())),
                each.get("answers", ""),
                each.get("reasoning", ""),
            )
            for each in self.said["conversation"]
        ]


def tools(*names: str, choice: Any = "auto", parallel: bool = True) -> Tools:
    """Some of the tools below, on their way to a worker."""
    specs = tuple(
        ToolSpec(each.name, each.description, each.parameters) for each in TOOLS if each.name in names
    )
    return Tools(
        specs or tuple(ToolSpec(each.name, each.description, each.parameters) for each in TOOLS),
        choice,
        parallel,
    )


def read(
    dialect: str, pieces: Sequence[str], *, calls: bool = True, begins_thinking: bool = False
) -> list[list[str]]:
    """The parts of an answer that comes in pieces, neighbours of one kind as one."""
    reader = dialects.reader(dialect, calls=calls, begins_thinking=begins_thinking, tools=TOOLS)
    return merged([part for piece in pieces for part in reader.feed(piece)] + reader.finish())


def merged(parts: Sequence[Part]) -> list[list[str]]:
    """Parts as JSON has them."""
    found: list[list[str]] = []
    for part in parts:
        match part:
            case CallPart() if part.name:
                found.append(["call", part.name, part.arguments])
            case CallPart():
                found[-1][2] += part.arguments
            case TextPart() | ReasoningPart():
                kind = "text" if isinstance(part, TextPart) else "reasoning"
                if found and found[-1][0] == kind:
                    found[-1][1] += part.text
                else:
                    found.append([kind, part.text])
    return found


@cache
def transcripts() -> tuple[Transcript, ...]:
    """All golden files."""
    return tuple(
        Transcript(path.stem, json.loads(path.read_text())) for path in sorted(VECTORS.glob("*.json"))
    )


TOOLS = (
    Tool(
        "weather",
        "The weather in a town.",
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "town": {"type": "string", "description": "its name"},
                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["town"],
                "additionalProperties": False,
            }
        ),
    ),
    Tool(
        "find",
        "Looks for a form.",
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "number": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{2}$"},
                    "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
                },
                "required": ["number"],
                "additionalProperties": False,
            }
        ),
    ),
)
