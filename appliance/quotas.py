"""What each key had today before this start, from the record: a restart gives no quota back."""

from __future__ import annotations

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from appliance.accounts.directory import Directory
from appliance.admitting import Admitting
from appliance.audit import blind, usage
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import Home
from appliance.db import Place
from appliance.log import get_logger
from appliance.policy.limits import DAY_US

AGAIN_SECONDS = 2

log = get_logger(__name__)


async def count_today(
    home: Home, place: Place, audit: AuditLog, directory: Directory, admitting: Admitting, clock: Clock
) -> None:
    """Until it is counted, keys that have a daily quota are refused (`usage_unknown`).

    Begun before anybody is let in: what comes from here on, `admitting` counts itself.
    """
    before_seq = audit.tree_size
    since_us = clock.now_us() // DAY_US * DAY_US
    while True:
        try:
            index = blind.existing_key(home, blind.month_of(since_us))
            counted = await asyncio.to_thread(usage.by_blind, place, since_us=since_us, before_seq=before_seq)
        except (SQLAlchemyError, OSError) as error:
            log.warning("usage_not_counted", error=type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            admitting.learn(usage.of_keys(counted, index, [each.id for each in directory.all()]))
            return
