"""The installer's journal: what a torn disk leaves is read, what somebody else wrote is not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.bundle.install import journal
from appliance.bundle.install.journal import Line, Plan
from appliance.bundle.install.steps import State, What
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import InternalError, SetupError

PLAN = Plan(what=What.UPGRADE, serial=2, release="1.2.0", folder="2-1.2.0", previous="1-1.1.0")


def line(state: State, run: str = "0" * 16) -> Line:
    return Line(run=run, state=state, at_us=1, plan=PLAN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "install.jsonl"


def test_torn_last_line_is_not_there_and_is_written_over(path: Path) -> None:
    """At every length of the last line it was never begun, and the next append stands in its place."""
    journal.append(path, line(State.STAGED))
    whole = path.read_bytes()
    journal.append(path, line(State.VERIFIED))
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        assert [each.state for each in journal.read(path)] == [State.STAGED], length
    journal.append(path, line(State.VERIFIED))

    assert path.read_bytes() == both


@pytest.mark.parametrize(
    "injury",
    [
        lambda data: b"{}\n" + data,
        lambda data: data.replace(b"staged", b"stages"),
        lambda data: data.split(b"\n", 1)[0] + b"\n" + data,
        lambda data: data.replace(b'"state":"verified"', b'"state":"committed"'),
    ],
)
def test_whole_line_of_somebody_else_stops_everything(path: Path, injury: object) -> None:
    """Nothing is guessed from a journal that we did not write."""
    journal.append(path, line(State.STAGED))
    journal.append(path, line(State.VERIFIED))
    path.write_bytes(injury(path.read_bytes()))  # type: ignore[operator]

    with pytest.raises(SetupError, match="is not one that an installer wrote"):
        journal.read(path)


def test_line_that_may_not_follow_is_a_bug_of_ours(path: Path) -> None:
    """The journal refuses to say what no run does."""
    journal.append(path, line(State.STAGED))

    with pytest.raises(InternalError):
        journal.append(path, line(State.SWITCHED))


def test_long_journal_keeps_its_end(path: Path) -> None:
    """It is begun anew before it grows for ever; the last runs stay readable."""
    lines = [line(State.STAGED, f"{number:016x}") for number in range(journal._TRIM_BYTES // 200)]
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
    journal.append(path, line(State.STAGED, "f" * 16))

    found = journal.read(path)
    assert len(found) == journal._KEPT_LINES + 1
    assert found[-1].run == "f" * 16


def test_endless_journal_is_refused(path: Path) -> None:
    """More bytes than it ever has are not read."""
    path.write_bytes(b" " * (journal.MAX_BYTES + 1))

    with pytest.raises(SetupError, match="too large"):
        journal.read(path)


def test_lock_has_one_holder(tmp_path: Path) -> None:
    """A second installer is refused with 30, at once."""
    site = Site(tmp_path)
    with journal.locked(site), pytest.raises(BundleRefused) as refused, journal.locked(site):
        pass

    assert refused.value.exit is Exit.BUSY
