"""The bar of a long reading: share, rate and time left; nothing where nobody looks."""

from __future__ import annotations

import pytest

from appliance.cli import progress
from appliance.cli.progress import Progress


def test_line_tells_share_rate_and_time_left() -> None:
    """From where the reading began, not from the record's first entry."""
    line = progress.line(60_000, 100_000, 20_000, 2.0)

    assert "[###############---------------]  50%" in line
    assert "20,000 entries/s" in line
    assert "2 s left" in line
    assert "100%" in progress.line(10, 10, 10, 0.0)


def test_bytes_are_told_in_megabytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of gigabytes is told; one of kilobytes is done before one could look."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for total in (1_000_000, 4_000_000_000):
        bar = Progress("copying", unit="bytes")
        for done in (0, total):
            bar.update(done, total)
    told = capsys.readouterr().err

    assert told.count("100%") == 1
    assert "MB/s" in told
    assert progress.line(3_000_000, 10_000_000, 1_000_000, 2.0, unit="bytes").count("        1 MB/s") == 1


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads our output finds nothing beside it."""
    bar = Progress()
    bar.update(0, 1_000_000)
    bar.update(1_000_000, 1_000_000)

    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal_ends_with_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long readings are told; short ones are done before one could look."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = Progress()
    for done in (0, 500_000, 1_000_000):
        bar.update(done, 1_000_000)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith("\n")
    assert "100%" in told

    bar = Progress()
    bar.update(0, 100)
    bar.update(100, 100)
    assert capsys.readouterr().err == ""
