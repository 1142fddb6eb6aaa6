"""Which dialect a chat template speaks, what it can be told, and whether its model thinks.

By the marks that stand in it: names of models say nothing. Templates are programs, so what is asked of
a variable is asked of their code alone, not of the texts in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from appliance.dialects.deepseek import DeepSeek, DeepSeekFenced
from appliance.dialects.dialect import Dialect
from appliance.dialects.gemma import FunctionGemma, Gemma
from appliance.dialects.harmony import Harmony
from appliance.dialects.hermes import Bracketed, Hermes, Plain
from appliance.dialects.llama3 import Llama3
from appliance.dialects.mistral import Mistral, MistralList
from appliance.dialects.phi import Phi
from appliance.dialects.qwen_coder import QwenCoder

PLAIN = Plain()
# In the order in which they are looked for: the more particular ones first.
_NATIVE: tuple[Dialect, ...] = (
    Harmony(),
    QwenCoder(),
    DeepSeekFenced(),
    DeepSeek(),
    Mistral(),
    MistralList(),
    Phi(),
    Gemma(),
    FunctionGemma(),
    Hermes(),
    Llama3(),
)
DIALECTS: dict[str, Dialect] = {each.name: each for each in (*_NATIVE, Bracketed(), PLAIN)}

_CODE = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_THINKS = ("<think>", "[THINK]", "<|channel|>", "<|channel>thought")
Effort = Literal["", "none", "minimal", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Speech:
    """What a chat template says of its model."""

    dialect: Dialect
    is_native: bool  # it knows tools in a way that we know: else they are told in words
    thinks: bool
    effort_variables: frozenset[str]  # with which it is told how long to think
    tools_in_system: bool = False  # it looks for them in the system message, as text
    can_refuse_effort: bool = True  # it has a way to be told not to think


class EffortError(Exception):
    """This model's thinking can not be set so; the message is for the caller."""


def recognised(template: str) -> Speech:
    """The dialect of a chat template, with the words for what it does not know itself."""
    code = _code_of(template)
    in_system = "<|tool|>" in template and bool(re.search(r"message(\.tools|\[(['\"])tools\2\])", template))
    knows_tools = in_system or _reads(code, "tools")
    spoken = next((each for each in _NATIVE if each.is_spoken_in(template)), None)
    thinks = any(each in template for each in _THINKS)
    variables = frozenset(
        each for each in ("enable_thinking", "reasoning_effort", "thinking") if _reads(code, each)
    )
    can_refuse = bool(variables - {"reasoning_effort"}) or bool(re.search(r"""(['"])none\1""", template))
    if spoken is None or not (knows_tools or isinstance(spoken, Harmony)):
        return Speech(
            _worded(template),
            is_native=False,
            thinks=thinks,
            effort_variables=variables,
            can_refuse_effort=can_refuse,
        )
    return Speech(
        spoken,
        is_native=True,
        thinks=thinks,
        effort_variables=variables,
        tools_in_system=in_system,
        can_refuse_effort=can_refuse,
    )


def effort_values(speech: Speech, effort: Effort | str) -> dict[str, object]:
    """What a template is told for an effort. EffortError where it can not be told."""
    if not effort or (effort == "none" and not speech.thinks):
        return {}
    if not speech.thinks:
        raise EffortError("this model does not think: leave reasoning_effort out, or say none")
    if effort == "none" and not (speech.effort_variables and speech.can_refuse_effort):
        raise EffortError("this model always thinks: its reasoning_effort can not be none")
    values: dict[str, object] = {}
    for name in speech.effort_variables:
        if name != "reasoning_effort":
            values[name] = effort != "none"
        else:
            values[name] = "low" if effort == "minimal" else effort
    return values


def _worded(template: str) -> Dialect:
    """For tools in words: the same calls everywhere, beside the template's own thoughts."""
    if "<think>" in template:
        return DIALECTS["hermes"]
    return DIALECTS["bracketed"] if "[THINK]" in template else PLAIN


def _code_of(template: str) -> str:
    return "\n".join(_TEXT.sub(" ", found[1]) for found in _CODE.finditer(template))


def _reads(code: str, name: str) -> bool:
    """Whether a variable of this name is used: no attribute, and no key."""
    return bool(re.search(rf"(?<![.\w]){name}\b(?!\s*=[^=])", code))
