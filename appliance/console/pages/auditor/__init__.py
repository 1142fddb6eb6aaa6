"""The auditor's pages: search, record, evidence, reviews, the log, and one's identity on this box."""

from __future__ import annotations

from appliance.console.pages.auditor import (
    evidence,
    identity,
    log,
    purpose,
    record,
    reviews,
    searching,
    texts,
)

ROUTES = [
    *searching.ROUTES,
    *purpose.ROUTES,
    *record.ROUTES,
    *texts.ROUTES,
    *evidence.ROUTES,
    *reviews.ROUTES,
    *log.ROUTES,
    *identity.ROUTES,
]
MENU = [*searching.MENU, *evidence.MENU, *reviews.MENU, *log.MENU]
