"""What the log promises on SQLite it promises on PostgreSQL: the same tests over the other `home`."""

from __future__ import annotations

from tests.unit.audit.test_log import (
    test_append_is_durable_when_it_returns,
    test_cancelled_caller_does_not_cancel_the_write,
    test_damaged_latch_is_a_latch,
    test_epochs_end_with_time_and_with_records,
    test_files_are_private,
    test_head_file_is_needed_and_believed_only_signed,
    test_recovery_closes_what_was_open,
    test_second_writer_loses_loudly,
    test_time_never_runs_backwards_on_the_record,
)
from tests.unit.audit.test_recovery import (
    test_head_file_that_is_no_text_is_a_setup_error,
    test_init_opens_no_latch_and_replaces_no_key,
    test_missing_latch_is_a_latch_and_can_be_opened,
    test_recovery_of_a_healthy_log_changes_nothing,
)
from tests.unit.test_custody import (
    clock,
    test_contents_go_when_their_time_is_over_and_not_before,
    test_hold_stops_both_ways_of_losing_content,
)

__all__ = [
    "clock",
    "test_append_is_durable_when_it_returns",
    "test_cancelled_caller_does_not_cancel_the_write",
    "test_contents_go_when_their_time_is_over_and_not_before",
    "test_damaged_latch_is_a_latch",
    "test_epochs_end_with_time_and_with_records",
    "test_files_are_private",
    "test_head_file_is_needed_and_believed_only_signed",
    "test_head_file_that_is_no_text_is_a_setup_error",
    "test_hold_stops_both_ways_of_losing_content",
    "test_init_opens_no_latch_and_replaces_no_key",
    "test_missing_latch_is_a_latch_and_can_be_opened",
    "test_recovery_closes_what_was_open",
    "test_recovery_of_a_healthy_log_changes_nothing",
    "test_second_writer_loses_loudly",
    "test_time_never_runs_backwards_on_the_record",
]
