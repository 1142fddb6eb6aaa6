"""What an operator is told: each mark has its word, each alarm its advice, each command exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from appliance.audit import pulse, volume
from appliance.audit.happenings import ALARMS
from appliance.audit.kinds import Kind
from appliance.audit.space import Level, Room
from appliance.console.pages import health_words as words
from appliance.reviewing import Reviews
from appliance.trends import Point, Spread
from appliance.verification import Last
from appliance.witnessing import Visits
from tests.house.test_guides import problem_of

NOW_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000
POINT = Point(
    NOW_US - 900_000_000,
    NOW_US,
    closed={"stop": 90},
    refused={},
    running=0,
    waiting=0,
    steps=10,
    step_us=10,
    completion_tokens=9000,
    first_token=Spread(0.2, 0.9),
    gap=Spread(0.02, 0.05),
)
FIGURES = {
    "log": (words.log_figure(is_ready=True, reason="", tree_size=1234), "good"),
    "latched": (words.log_figure(is_ready=False, reason="disk", tree_size=1), "bad"),
    "models": (words.models_figure(2, 3, 0, 0), "good"),
    "model down": (words.models_figure(1, 2, 1, 3), "bad"),
    "idle": (words.load_figure(0, 0, 256), "good"),
    "queue": (words.load_figure(16, 3, 256), "warn"),
    "full": (words.load_figure(16, 256, 256), "bad"),
    "answers": (words.answers_figure(POINT), "good"),
    "failures": (words.answers_figure(replace(POINT, closed={"failed": 1})), "bad"),
    "disk": (words.disk_figure(Room(1 << 40, 0.1)), "good"),
    "filling": (words.disk_figure(Room(1 << 33, 0.8, Level.WARNING)), "warn"),
    "full disk": (words.disk_figure(Room(1, 0.99, Level.LOW, has_ballast=False)), "bad"),
    "verified": (words.verified_figure(Last(is_green=True, size=10, ts=NOW_US), now_us=NOW_US), "good"),
    "red": (words.verified_figure(Last(is_green=False, size=10, ts=NOW_US), now_us=NOW_US), "bad"),
    "unverified": (words.verified_figure(None, now_us=NOW_US), "warn"),
    "visited": (words.witness_figure(Visits(1, 10, 1_799_000_000, is_stale=False), now_us=NOW_US), "good"),
    "overdue": (words.witness_figure(Visits(1, 10, 1_700_000_000, is_stale=True), now_us=NOW_US), "bad"),
    "pinned": (words.witness_figure(Visits(1, 0, 0, is_stale=False), now_us=NOW_US), "warn"),
    "no witness": (words.witness_figure(Visits(0, 0, 0, is_stale=False), now_us=NOW_US), "warn"),
    "reviewed": (words.review_figure(Reviews([], 0, NOW_US, is_due=False, days=7), now_us=NOW_US), "good"),
    "review due": (words.review_figure(Reviews([], 0, None, is_due=True, days=7), now_us=NOW_US), "warn"),
    "review unknown": (words.review_figure(None, now_us=NOW_US), "bad"),
    "backup": (words.backup_figure(NOW_US - DAY_US, now_us=NOW_US), "good"),
    "old backup": (words.backup_figure(NOW_US - 8 * DAY_US, now_us=NOW_US), "warn"),
    "no backup": (words.backup_figure(None, now_us=NOW_US), "warn"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_has_its_mark_and_the_mark_its_word(name: str) -> None:
    """Nothing is told by a colour alone."""
    figure, mark = FIGURES[name]

    assert figure.mark == mark
    assert figure.mark_text
    assert figure.value


def test_figures_without_an_answer_say_so() -> None:
    """Before the first sample, and where nobody asked."""
    asked = (words.speed_figure, words.wait_figure, words.gap_figure, words.answers_figure)

    assert {each(None).value for each in asked} == {"–"}
    assert words.wait_figure(POINT).value == "0.20 / 0.90 s"
    assert words.gap_figure(POINT).value == "20 / 50 ms"
    assert words.speed_figure(POINT).value == "10.0"


@pytest.mark.parametrize(
    "reason",
    [
        "verify is red, 3 findings: entry 7 is not what was signed",
        "a commit took longer than audit.commit_timeout_seconds",
        "OperationalError SQLITE_FULL",
        "the database file is another one",
    ],
)
def test_help_names_commands_that_exist_and_ends_in_recovery(reason: str) -> None:
    """Whatever closed the log, its operator is told what to type."""
    found = words.help_with(reason)

    assert found.says
    assert [problem for each in found.commands if (problem := problem_of(each))] == []
    assert found.commands[-1] == "appliance audit recover"


CODES = ("disk_warning", "disk_low", "disk_full", pulse.SILENT, "verify_not_run", volume.ALARM,
         "certificate_not_taken", "certificate_over")  # fmt: skip
PUBLIC: Mapping[Kind, Mapping[str, str | int]] = {
    Kind.LOG_RECOVERED: {"reason": "a test"},
    Kind.LOG_VERIFIED: {"findings": 2},
    Kind.MODEL_FAILED: {"model": "m", "code": "worker_died"},
    Kind.CLOCK_STEPPED: {"expected_us": 1_000_000, "found_us": 4_500_000},
    Kind.ACCOUNT_LOCKED: {"role": "auditor"},
    Kind.BUNDLE_REFUSED: {"reason": "bundle_expired"},
    Kind.BUNDLE_ROLLED_BACK: {"serial": 2, "release": "2.0.0", "reason": "release_unhealthy"},
}


@pytest.mark.parametrize("code", CODES)
def test_every_alarm_of_the_log_has_words_and_advice(code: str) -> None:
    """No operator is left with a code."""
    title, advice, mark = words._told(Kind.LOG_ALARM, {"code": code})

    assert code not in title
    assert advice
    assert mark in {"warn", "bad"}


def test_every_kind_that_is_an_alarm_has_words() -> None:
    """A kind that is added to the alarms is added here."""
    told = {kind: words._told(kind, PUBLIC[kind]) for kind in ALARMS if kind is not Kind.LOG_ALARM}

    assert set(PUBLIC) | {Kind.LOG_ALARM} == set(ALARMS)
    assert all(title and advice for title, advice, _ in told.values())
    assert told[Kind.CLOCK_STEPPED][0] == "The clock was set by +3.5 s"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (200_000, "2 days ago")],
)
def test_moments_are_told_as_people_say_them(seconds: int, told: str) -> None:
    """Rounded down; what lies ahead is now."""
    assert words.ago(NOW_US - seconds * 1_000_000, NOW_US) == told
    assert words.ago(NOW_US + 1_000_000, NOW_US) == "just now"
