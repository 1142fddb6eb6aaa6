"""API keys: who may call. A key's secret stands on one page, once; never in an address, a notice or a log."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.keys import ApiKey
from appliance.accounts.roles import Permission, keys_of
from appliance.accounts.terms_words import in_brief, in_words
from appliance.administration import Made
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages import key_terms
from appliance.console.pages.forms import not_done
from appliance.console.pages.key_terms import Fields, terms_of, typed
from appliance.console.render import NavItem
from appliance.core import Role
from appliance.errors import Refused, RequestError

_DAY_SECONDS: Final = 86_400
_DAY_US: Final = _DAY_SECONDS * 1_000_000
_SOON_US: Final = 14 * _DAY_US
LIFETIMES: Final = (("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "never expires"))
OVERLAPS: Final = (("0", "no longer"), ("3600", "an hour"), ("86400", "a day"), ("604800", "a week"))
ROLES: Final = {
    Role.KIOSK: "asks the model",
    Role.DEVELOPER: "asks the model, for programs in the making",
    Role.OPERATOR: "sees readiness and metrics: for monitoring",
    Role.ADMIN: "as operator",
    Role.AUDITOR: "searches the record",
    Role.PRIVACY: "signs erasures",
    Role.WITNESS: "cosigns",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One key as the list shows it."""

    key: ApiKey
    state: str
    mark: str
    used_us: int | None
    terms: str  # in brief
    may_change: bool


async def page(request: Request) -> Response:
    """The list, and the form for another."""
    return _page(request)


def _page(
    request: Request,
    problem: str = "",
    status: HTTPStatus = HTTPStatus.OK,
    *,
    name: str = "",
    role: str = "",
    days: str = "90",
    stores: bool = False,
    said: Fields = Fields(),  # noqa: B008 - frozen
) -> Response:
    call = call_of(request)
    now_us = call.services.clock.now_us()
    mine = keys_of(call.principal.role)
    shown = [_shown(call, each, now_us) for each in call.services.administration.list_keys()]
    shown.sort(key=lambda each: (each.state in {"revoked", "expired"}, -each.key.created_us))
    return render(
        request,
        "operator/keys.html",
        status=status,
        active="/keys",
        keys=shown,
        num_active=sum(each.state not in {"revoked", "expired"} for each in shown),
        roles=[(role, ROLES[role]) for role in mine],
        lifetimes=LIFETIMES,
        problem=problem,
        name=name,
        role=role,
        days=days,
        stores=stores,
        **key_terms.choices(call.services.catalog, said),
    )


def _shown(call: Call, key: ApiKey, now_us: int) -> Shown:
    state, mark = state_of(key.expires_us, key.revoked_us, now_us)
    return Shown(
        key=key,
        state=state,
        mark=mark,
        used_us=call.services.directory.last_use_us(key.id),
        terms=", ".join([*in_brief(key.terms), *(["stores responses"] if key.stores_responses else [])]),
        may_change=key.is_active(now_us) and key.role in keys_of(call.principal.role),
    )


def state_of(expires_us: int | None, ended_us: int | None, now_us: int) -> tuple[str, str]:
    """In force or not, as a word and a mark."""
    if ended_us is not None:
        return "revoked", ""
    if expires_us is not None and expires_us <= now_us:
        return "expired", ""
    if expires_us is not None and expires_us - now_us < _SOON_US:
        return "expires soon", "warn"
    return "active", "good"


async def create(request: Request) -> Response:
    """A fresh key. Its secret is in this answer and nowhere else: whoever loads it again makes another."""
    call = call_of(request)
    name, stores, said = call.text("name", limit=200), bool(call.text("stores", limit=10)), typed(call)
    try:
        role = _role(call)
        made = await call.services.administration.create_key(
            name,
            role,
            expires_seconds=lifetime_of(call),
            stores_responses=stores,
            terms=terms_of(said),
            by=call.principal,
        )
    except RequestError as problem:
        return _page(
            request,
            *await not_done(request, problem),
            name=name,
            role=call.text("role", limit=32),
            days=call.text("days", limit=5),
            stores=stores,
            said=said,
        )
    return _made(request, made)


def _made(request: Request, made: Made) -> Response:
    return render(
        request,
        "operator/key_made.html",
        active="/keys",
        key=made.new.key,
        token=made.new.token,
        record=made.receipt.record,
        replaced=made.replaced,
        until_us=made.until_us,
    )


async def show(request: Request) -> Response:
    """Everything about a key, and the forms for its terms and for another secret."""
    return _key_page(request)


def _key_page(
    request: Request,
    problem: str = "",
    status: HTTPStatus = HTTPStatus.OK,
    *,
    said: Fields | None = None,
) -> Response:
    call = call_of(request)
    now_us = call.services.clock.now_us()
    key = _find(call, request.path_params["key_id"])
    named = call.services.directory.active_named(key.name, now_us=now_us)
    state, mark = state_of(key.expires_us, key.revoked_us, now_us)
    return render(
        request,
        "operator/key.html",
        status=status,
        active="/keys",
        key=key,
        state=state,
        mark=mark,
        used_us=call.services.directory.last_use_us(key.id),
        words=list(in_words(key.terms)),
        other=next((each for each in named if each.id != key.id), None),
        overlaps=OVERLAPS,
        lifetimes=LIFETIMES,
        problem=problem,
        **key_terms.choices(call.services.catalog, said or key_terms.of_terms(key.terms)),
    )


async def change(request: Request) -> Response:
    """Other terms for one key, in force with the commit."""
    call = call_of(request)
    key = _find(call, request.path_params["key_id"])
    said = typed(call)
    try:
        done = await call.services.administration.change_key(key.id, terms_of(said), by=call.principal)
    except RequestError as problem:
        return _key_page(request, *await not_done(request, problem), said=said)
    call.known.notice = f"The key {key.name} has other terms: {done.receipt.record}"
    return see(f"/keys/{key.id}")


async def rotate(request: Request) -> Response:
    """Another secret for a key. It is in this answer and nowhere else."""
    call = call_of(request)
    key = _find(call, request.path_params["key_id"])
    try:
        made = await call.services.administration.rotate_key(
            key.id,
            overlap_seconds=_overlap_of(call),
            expires_seconds=None if call.text("days", limit=5) == "same" else lifetime_of(call),
            by=call.principal,
        )
    except RequestError as problem:
        return _key_page(request, *await not_done(request, problem))
    return _made(request, made)


async def confirm(request: Request) -> Response:
    """Is this the key that is meant?"""
    call = call_of(request)
    key = _find(call, request.path_params["key_id"])
    used_us = call.services.directory.last_use_us(key.id)
    return render(request, "operator/key_revoke.html", active="/keys", key=key, used_us=used_us)


async def revoke(request: Request) -> Response:
    """Out of force with the commit."""
    call = call_of(request)
    key = _find(call, request.path_params["key_id"])
    _, receipt = await call.services.administration.revoke_key(key.id, by=call.principal)
    call.known.notice = f"The key {key.name} is revoked: {receipt.record}"
    return see("/keys")


def _role(call: Call) -> Role:
    try:
        role = Role(call.text("role", limit=32))
    except ValueError as error:
        raise RequestError("there is no such role", code="invalid_role", param="role") from error
    _require(call, role)
    return role


def _find(call: Call, key_id: str) -> ApiKey:
    now_us = call.services.clock.now_us()
    found = {each.id: each for each in call.services.administration.list_keys()}.get(key_id)
    if found is None or not found.is_active(now_us):
        raise RequestError("no key in force has this id", code="not_found")
    _require(call, found.role)
    return found


def _require(call: Call, role: Role) -> None:
    if role not in keys_of(call.principal.role):
        raise Refused(f"your role does not manage keys of the role {role}")


def _overlap_of(call: Call) -> int:
    chosen = call.text("overlap", limit=10)
    if chosen not in {value for value, _ in OVERLAPS}:
        raise RequestError("this is not one of the overlaps", code="invalid_overlap", param="overlap")
    return int(chosen)


def lifetime_of(call: Call) -> int | None:
    """The form's lifetime in seconds; None for one without an end."""
    days = call.text("days", limit=5)
    if days not in {value for value, _ in LIFETIMES}:
        raise RequestError("this is not one of the lifetimes", code="invalid_expiry", param="days")
    return int(days) * _DAY_SECONDS if days else None


ROUTES = [
    route("/keys", page, Permission.MANAGE_KEYS),
    route("/keys", create, Permission.MANAGE_KEYS, methods=("POST",)),
    route("/keys/{key_id}", show, Permission.MANAGE_KEYS),
    route("/keys/{key_id}", change, Permission.MANAGE_KEYS, methods=("POST",)),
    route("/keys/{key_id}/rotate", rotate, Permission.MANAGE_KEYS, methods=("POST",)),
    route("/keys/{key_id}/revoke", confirm, Permission.MANAGE_KEYS),
    route("/keys/{key_id}/revoke", revoke, Permission.MANAGE_KEYS, methods=("POST",)),
]
MENU = [NavItem("API keys", "/keys", Permission.MANAGE_KEYS)]
