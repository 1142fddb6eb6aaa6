"""State tables: every row of theirs is committed to by an audit record. A new one is named here."""

from __future__ import annotations

from appliance.accounts import accounts, entrances, saved, tables
from appliance.accounts.documents import document
from appliance.accounts.grants import key_grant
from appliance.accounts.hosted import hosted_identity
from appliance.accounts.terms_rows import key_terms
from appliance.audit import tables as audit_tables
from appliance.audit.drafts import drafted_act
from appliance.audit.holds import legal_hold
from appliance.models.tables import alias, evaluation, model

STATE_TABLES = (
    tables.api_key,
    key_grant,
    key_terms,
    accounts.account,
    entrances.entrance,
    saved.saved_search,
    legal_hold,
    drafted_act,
    audit_tables.witness,
    audit_tables.cosignature,
    hosted_identity,
    document,
    model,
    alias,
    evaluation,
)
# What a log that begins anew takes over: cosignatures are of the old log's tree, and stay with it.
CARRIED_TABLES = tuple(each for each in STATE_TABLES if each is not audit_tables.cosignature)
