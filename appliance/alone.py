"""What an appliance is without a gateway: the log and everybody who changes something through it.

The running gateway has one of these, and so has the `appliance` program while no gateway runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.accounts.directory import Directory
from appliance.accounts.uses import Uses
from appliance.administration import Administration
from appliance.audit.log import AuditLog
from appliance.auditing import Auditing
from appliance.custody import Custody
from appliance.exporting import Exporting
from appliance.hosting import Hosted
from appliance.people import People
from appliance.publishing import Publishing
from appliance.witnessing import Witnessing


@dataclass(frozen=True, slots=True)
class Alone:
    """The log, open for writing, and its stewards. `services.open_log_alone` makes and closes it."""

    audit: AuditLog
    directory: Directory
    uses: Uses
    administration: Administration
    custody: Custody
    auditing: Auditing
    witnessing: Witnessing
    people: People
    exporting: Exporting
    hosted: Hosted
    publishing: Publishing
