"""The steps of an installation: which follow which, and what a crash behind each of them means. Pure.

One rule decides every crash: **what was not committed is undone.** A line of the journal says that a step is
done, so behind the last line the next step may be half done: undoing takes that one into account. Whoever
calls again finds what is expensive already there (the staged copy, the store, the release's folder) and is
soon as far.

    install, upgrade  staged verified preflighted venv_built smoke ┐
    rollback                          preflighted            smoke ┴ then, while nobody is served:
                      quiesced db_backed_up migrated switched probation
    all end with      committed tidied            (committed is the one commit point)
              or      rolling_back rolled_back
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class What(StrEnum):
    """What is being done to this host."""

    INSTALL = "install"  # there is no release yet
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"  # to the release that was kept


class State(StrEnum):
    """What is done. Each is a line of the journal."""

    STAGED = "staged"
    VERIFIED = "verified"
    PREFLIGHTED = "preflighted"
    VENV_BUILT = "venv_built"
    SMOKE = "smoke"
    QUIESCED = "quiesced"
    DB_BACKED_UP = "db_backed_up"
    MIGRATED = "migrated"
    SWITCHED = "switched"
    PROBATION = "probation"
    COMMITTED = "committed"
    TIDIED = "tidied"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class Undo(StrEnum):
    """What takes a host back to where it was. Each may be done again."""

    STOP = "stop"  # whatever serves
    RESTORE = "restore"  # the home, as it was before it was migrated
    RELINK = "relink"  # `current`
    START = "start"  # the release that served before


_WHOLE: Final = (
    State.STAGED,
    State.VERIFIED,
    State.PREFLIGHTED,
    State.VENV_BUILT,
    State.SMOKE,
    State.QUIESCED,
    State.DB_BACKED_UP,
    State.MIGRATED,
    State.SWITCHED,
    State.PROBATION,
    State.COMMITTED,
    State.TIDIED,
)
PATHS: Final = {
    What.INSTALL: _WHOLE,
    What.UPGRADE: _WHOLE,
    What.ROLLBACK: tuple(
        each for each in _WHOLE if each not in {State.STAGED, State.VERIFIED, State.VENV_BUILT}
    ),
}
ENDS: Final = frozenset({State.TIDIED, State.ROLLED_BACK})


def first(what: What) -> State:
    """Where it begins."""
    return PATHS[what][0]


def following(what: What, state: State) -> State | None:
    """The step behind this one; None behind the last."""
    if state in {State.ROLLING_BACK, State.ROLLED_BACK}:
        return State.ROLLED_BACK if state is State.ROLLING_BACK else None
    path = PATHS[what]
    place = path.index(state) + 1
    return path[place] if place < len(path) else None


def may_follow(what: What, before: State | None, state: State) -> bool:
    """Whether the journal may hold this line behind that one of the same run."""
    if before is None:
        return state in {first(what), State.ROLLING_BACK}
    if before in ENDS:
        return False
    if state is State.ROLLING_BACK:
        return before is not State.COMMITTED  # also again: a crash while undoing begins the undoing anew
    return state is following(what, before)


def is_undone(state: State) -> bool:
    """Whether a run that ends with this line is undone by whoever comes next; a committed one is tidied."""
    return state not in ENDS and state is not State.COMMITTED


def undoing(what: What, done: State | None, *, has_previous: bool, restores: bool) -> tuple[Undo, ...]:
    """What must be done, in order, to undo a run whose last finished step is `done` (of its path, not of
    undoing).

    The step behind it may be half done. `restores`: the schema changes, so that going back takes the home's
    copy. Without a previous release there is nothing to start again.
    """
    if done is None or not is_undone(done) or done is State.ROLLING_BACK:
        return ()
    begun = following(what, done)
    reached = _WHOLE.index(begun) if begun is not None else len(_WHOLE)
    found: list[Undo] = []
    if reached >= _WHOLE.index(State.MIGRATED):
        found.append(Undo.STOP)
        if restores and has_previous:
            found.append(Undo.RESTORE)
    if reached >= _WHOLE.index(State.SWITCHED):
        found.append(Undo.RELINK)
    if reached >= _WHOLE.index(State.QUIESCED) and has_previous:
        found.append(Undo.START)
    return tuple(found)


def is_upgrade_allowed(installed: int, *, min_serial: int, via: tuple[int, ...]) -> bool:
    """Whether this serial may be upgraded directly. `via`: older ones that may as well."""
    return installed >= min_serial or installed in via
