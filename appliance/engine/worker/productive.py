"""Whether a schema has any finite value: one that requires itself has none, and an answer never ends.

A least fixpoint over the schemas that take part: what can end without the others can end, then what
can end with those. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Node = dict[str, Any]
Resolve = Callable[[str], Node | bool]
_MAX_PASSES = 50  # nodes come parents first, so nearly all are known after one pass backwards


def can_end(nodes: Sequence[Node], resolve: Resolve) -> bool:
    """Whether some value of the first node is finite. `resolve` gives what a `$ref` points to.

    False only where surely none is: a schema that allows several types is taken to have one.
    """
    known: set[int] = set()
    for _ in range(_MAX_PASSES):
        before = len(known)
        for node in reversed(nodes):
            if id(node) not in known and _ends(node, known, resolve):
                known.add(id(node))
        if id(nodes[0]) in known:
            return True
        if len(known) == before:
            return False
    return False


def _ends(node: Node, known: set[int], resolve: Resolve) -> bool:
    if "const" in node or "enum" in node:
        return True

    def ends(other: Any) -> bool:
        return other if isinstance(other, bool) else id(other) in known

    if "$ref" in node and not ends(resolve(node["$ref"])):
        return False
    if not all(ends(each) for each in node.get("allOf", ())):
        return False
    for keyword in ("anyOf", "oneOf"):
        if keyword in node and not any(ends(each) for each in node[keyword]):
            return False
    if node.get("type") in ("object", ["object"]):
        properties = node.get("properties", {})
        return all(ends(properties.get(name, True)) for name in node.get("required", ()))
    if node.get("type") in ("array", ["array"]):
        least = node.get("minItems", 0)
        prefix = node.get("prefixItems", [])
        return all(ends(each) for each in prefix[:least]) and (
            least <= len(prefix) or ends(node.get("items", True))
        )
    return True
