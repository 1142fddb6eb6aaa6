"""What an operator is told in words: figures with marks, and what helps where they are bad. Pure.

A mark always stands beside a word; a command is one that the program really has (a house test).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.space import Level, Room
from appliance.engine.conduct import GIVEN_UP
from appliance.errors import InternalError
from appliance.reviewing import Reviews
from appliance.trends import Point
from appliance.verification import Last
from appliance.witnessing import Visits

MarkName = Literal["good", "warn", "bad", ""]
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
BACKUP_DAYS: Final = 7  # an older copy of the database is a reason to make one


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the big figures on the health page."""

    label: str
    value: str
    detail: str = ""
    mark: MarkName = ""
    mark_text: str = ""


@dataclass(frozen=True, slots=True)
class Help:
    """What is wrong, and the commands that help, in their order."""

    says: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One entry that somebody should know of."""

    seq: int
    ts_us: int
    title: str
    advice: str
    mark: MarkName


_ALARMS: Final = {
    "disk_warning": ("The disk is three quarters full", "See Storage for how long it lasts.", "warn"),
    "disk_low": (
        "The disk is almost full: nothing new is admitted",
        "Free room in the home's file system.",
        "bad",
    ),
    "disk_full": (
        "The disk was full: the log closed itself",
        "Free room, then run: appliance audit recover",
        "bad",
    ),
    "silent": (
        "The appliance stood still for longer than a heartbeat",
        "Was the machine suspended or its disk blocked?",
        "warn",
    ),
    "verify_not_run": ("The record could not be verified", "Run: appliance audit verify", "bad"),
    "certificate_not_taken": (
        "New files of the certificate can not be served",
        "The old one is served on. Run: appliance doctor",
        "warn",
    ),
    "certificate_over": (
        "The certificate's time is over: clients refuse the connection",
        "Run: appliance tls renew, or put a new one of your site in its place.",
        "bad",
    ),
    "worker_misbehaved": (
        "A model's worker made a system call that no worker makes, and was ended",
        "Who asked it just before? The kernel's log names the call: journalctl -k, 'type=1326'.",
        "bad",
    ),
    "worker_given_up": (
        "A model's workers misbehaved three times within an hour: it stays down",
        "Find out why first. Then restart the appliance.",
        "bad",
    ),
    "reading_volume": (
        "Somebody read more of the record than their limit allows",
        "Ask the auditors: who it was is sealed to them.",
        "bad",
    ),
}


def help_with(reason: str) -> Help:
    """What opens a log that closed itself for this reason."""
    if reason.startswith("verify is red"):
        return Help(
            "The record is not what it was. Look before you open it again, and tell the auditors.",
            ("appliance audit verify", "appliance audit recover"),
        )
    if "commit_timeout" in reason:
        return Help(
            "The disk did not take an entry in time. See to the disk first.",
            ("appliance doctor", "appliance audit recover"),
        )
    if "FULL" in reason or "full" in reason or "ENOSPC" in reason:
        return Help(
            "The disk is full. Free room in the home's file system first.",
            ("appliance doctor", "appliance audit recover"),
        )
    return Help(
        "Nothing is admitted until somebody has looked.",
        ("appliance doctor", "appliance audit verify", "appliance audit recover"),
    )


def log_figure(*, is_ready: bool, reason: str, tree_size: int) -> Figure:
    """Whether the log commits."""
    if is_ready:
        return Figure("Audit log", _grouped(tree_size), "entries on the record", "good", "Ready")
    return Figure("Audit log", _grouped(tree_size), reason, "bad", "Latched")


def models_figure(ready: int, known: int, wrong: int, restarts: int) -> Figure:
    """How many models are in memory. `wrong`: that can not be had, or should be there and are not."""
    mark: MarkName = "bad" if wrong else "good"
    detail = f"{restarts or 'no'} restart{'s' if restarts > 1 else ''} since the start"
    return Figure("Models", f"{ready} of {known}", detail, mark, "Not ready" if wrong else "Ready")


def load_figure(running: int, waiting: int, most_waiting: int) -> Figure:
    """Who is being answered, and who waits."""
    if waiting >= most_waiting > 0:
        return Figure("Requests now", f"{running} running", f"{waiting} waiting", "bad", "Full")
    if waiting:
        return Figure("Requests now", f"{running} running", f"{waiting} waiting", "warn", "Queueing")
    return Figure("Requests now", f"{running} running", "0 waiting", "good", "No queue")


def answers_figure(point: Point | None) -> Figure:
    """What became of the requests of the last quarter of an hour."""
    if point is None:
        return Figure("Requests lately", "–", "not measured yet")
    failed = point.closed.get("failed", 0)
    detail = f"in a quarter of an hour; {failed} failed, {sum(point.refused.values())} refused"
    mark: MarkName = "bad" if failed else "good"
    text = "Some failed" if failed else "None failed"
    return Figure("Requests lately", _grouped(sum(point.closed.values())), detail, mark, text)


def speed_figure(point: Point | None) -> Figure:
    """Tokens that were written lately."""
    if point is None:
        return Figure("Tokens per second", "–", "not measured yet")
    return Figure("Tokens per second", f"{point.tokens_per_second:.1f}", "over the last quarter of an hour")


def wait_figure(point: Point | None) -> Figure:
    """How long callers wait for their first token."""
    if point is None or point.first_token.p50 is None or point.first_token.p95 is None:
        return Figure("First token", "–", "no answer in the last quarter of an hour")
    return Figure(
        "First token",
        f"{point.first_token.p50:.2f} / {point.first_token.p95:.2f} s",
        "half within / 95 of 100 within",
    )


def gap_figure(point: Point | None) -> Figure:
    """How long callers wait for each further token."""
    if point is None or point.gap.p50 is None or point.gap.p95 is None:
        return Figure("Each further token", "–", "no answer in the last quarter of an hour")
    return Figure(
        "Each further token",
        f"{point.gap.p50 * 1000:.0f} / {point.gap.p95 * 1000:.0f} ms",
        "half within / 95 of 100 within",
    )


def disk_figure(room: Room) -> Figure:
    """What is left of the home's disk."""
    marks: dict[Level, tuple[MarkName, str]] = {
        Level.OK: ("good", "Enough"),
        Level.WARNING: ("warn", "Filling up"),
        Level.LOW: ("bad", "Nothing new is admitted"),
    }
    mark, text = marks[room.level]
    detail = f"{room.used:.0%} used" + ("" if room.has_ballast else ", no ballast")
    return Figure("Disk left", f"{room.free_bytes / 2**30:.1f} GiB", detail, mark, text)


def verified_figure(last: Last | None, *, now_us: int) -> Figure:
    """How the record was found when it was last verified."""
    if last is None:
        return Figure("Last verification", "never", "the first comes within the hour", "warn", "Not yet")
    mark: MarkName = "good" if last.is_green else "bad"
    return Figure(
        "Last verification",
        ago(last.ts, now_us),
        f"{_grouped(last.size)} entries",
        mark,
        "Green" if last.is_green else "Red",
    )


def witness_figure(visits: Visits, *, now_us: int) -> Figure:
    """When somebody else last remembered how long the log was."""
    if not visits.num_witnesses:
        return Figure("Last witness visit", "never", "no witness is pinned", "warn", "None")
    when = ago(visits.time_s * 1_000_000, now_us) if visits.time_s else "never"
    mark: MarkName = "bad" if visits.is_stale else "good" if visits.time_s else "warn"
    text = "Overdue" if visits.is_stale else "In time" if visits.time_s else "Not yet"
    return Figure("Last witness visit", when, f"{_grouped(visits.size)} entries cosigned", mark, text)


def review_figure(review: Reviews | None, *, now_us: int) -> Figure:
    """When an auditor last looked at the record."""
    if review is None:
        return Figure("Last review", "unknown", "the record can not be read", "bad", "Unknown")
    when = ago(review.last_us, now_us) if review.last_us else "never"
    mark: MarkName = "warn" if review.is_due else "good"
    detail = f"an auditor looks each {review.days} days at least"
    return Figure("Last review", when, detail, mark, "Due" if review.is_due else "In time")


def backup_figure(made_us: int | None, *, now_us: int) -> Figure:
    """When the database was last copied."""
    if made_us is None:
        return Figure("Last backup", "never", "appliance db backup", "warn", "None")
    is_old = now_us - made_us > BACKUP_DAYS * _DAY * 1_000_000
    mark: MarkName = "warn" if is_old else "good"
    return Figure("Last backup", ago(made_us, now_us), "of the database", mark, "Old" if is_old else "Fresh")


def alarm_of(record: Record) -> Alarm:
    """An entry in words."""
    title, advice, mark = _told(record.kind, record.public)
    return Alarm(record.seq, record.ts, title, advice, mark)


def _told(kind: Kind, public: Mapping[str, str | int]) -> tuple[str, str, MarkName]:
    code = str(public.get("code", ""))
    match kind:
        case Kind.LOG_ALARM if code in _ALARMS:
            title, advice, mark = _ALARMS[code]
            return title, advice, "bad" if mark == "bad" else "warn"
        case Kind.LOG_RECOVERED:
            return "The log was opened again", f"It had closed itself: {public.get('reason', '')}", "warn"
        case Kind.LOG_VERIFIED:
            return f"The record was found red: {public['findings']} findings", "Tell the auditors.", "bad"
        case Kind.MODEL_FAILED:
            goes_on = "it stays down" if code == GIVEN_UP else "it is started again by itself"
            return f"The model {public['model']} failed", f"{code}; {goes_on}", "bad"
        case Kind.CLOCK_STEPPED:
            step = (int(public["found_us"]) - int(public["expected_us"])) / 1e6
            return f"The clock was set by {step:+.1f} s", "Is the time source right?", "warn"
        case Kind.ACCOUNT_LOCKED:
            return (
                f"Somebody tried wrong passphrases for an account ({public['role']})",
                "It opens again by itself. Who it was is sealed to the auditors.",
                "warn",
            )
        case Kind.BUNDLE_REFUSED:
            return (
                f"A bundle was refused: {public.get('reason', '')}",
                "Where did the medium come from? deploy/guides/bundles.md tells the codes.",
                "warn",
            )
        case Kind.BUNDLE_ROLLED_BACK:
            return (
                f"Release {public.get('release', '')} failed, and the host went back",
                f"{public.get('reason', '')}; see: appliance bundle list",
                "warn",
            )
    return f"{kind} {code}".strip(), "", "warn"


def ago(moment_us: int, now_us: int) -> str:
    """How long ago, as people say it."""
    seconds = max(0, (now_us - moment_us) // 1_000_000)
    if seconds < _MINUTE:
        return "just now"
    for size, one in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {one}{'s' if count > 1 else ''} ago"
    raise InternalError("a time without a size")


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")
