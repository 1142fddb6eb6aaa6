"""Dialects: how families of models write tool calls and thoughts into their text.

Pure: text in, values out. The worker asks which dialect a chat template speaks, how tools are told to
the model and what its answer must keep to; the gateway reads the parts of an answer.
"""

from __future__ import annotations

from appliance.dialects.dialect import Dialect, Reader
from appliance.dialects.lark import Lark
from appliance.dialects.reading import reader
from appliance.dialects.recognition import DIALECTS, PLAIN, EffortError, Speech, effort_values, recognised

__all__ = [
    "DIALECTS",
    "PLAIN",
    "Dialect",
    "EffortError",
    "Lark",
    "Reader",
    "Speech",
    "effort_values",
    "reader",
    "recognised",
]
