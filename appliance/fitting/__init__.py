"""Does a model fit this machine? Reckoned from its file's header before anything is loaded.

    header ──shape_of──► Shape ──estimate(Wanted)──► Estimate ──plan(Machine)──► Plan

Pure but for `machine`, which reads what is free. DESIGN.md says where each figure comes from.
"""

from appliance.fitting.estimate import Estimate, Kind, Part, estimate
from appliance.fitting.plan import Device, Machine, Plan, Room, plan
from appliance.fitting.shape import Layer, Shape, shape_of
from appliance.fitting.wanted import Pool, Wanted, divide

__all__ = [
    "Device",
    "Estimate",
    "Kind",
    "Layer",
    "Machine",
    "Part",
    "Plan",
    "Pool",
    "Room",
    "Shape",
    "Wanted",
    "divide",
    "estimate",
    "plan",
    "shape_of",
]
