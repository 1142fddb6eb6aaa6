"""Templates → pages. Everything is escaped, and what would steer a screen is shown as its number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response

from appliance.accounts.roles import Permission, allows
from appliance.console.sessions import Session
from appliance.core import Role
from appliance.printable import on_one_line, visible

_HERE: Final = Path(__file__).resolve().parent
STATIC: Final = _HERE / "static"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the menu, for everybody whose role has the permission."""

    label: str
    path: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of ours, in memory; its address holds its digest, so that browsers may keep it for ever."""

    path: str
    media_type: str
    data: bytes


def static_files() -> dict[str, StaticFile]:
    """What `static/` holds, by name."""
    found = {}
    for path in sorted(STATIC.iterdir()):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()[:16]
        media = f"{_TYPES[path.suffix]}; charset=utf-8"
        found[path.name] = StaticFile(f"/static/{digest}/{path.name}", media, data)
    return found


class Pages:
    """The templates, and what all of them can say."""

    def __init__(self, origin: str, version: str, menu: Sequence[NavItem], *, is_dev: bool) -> None:
        self._menu = menu
        self.static = static_files()
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_finalize,
        )
        self._templates.filters |= {
            "moment": moment,
            "day": day,
            "clock": clock,
            "grouped": grouped,
            "quoted": quoted,
            "seconds": seconds,
            "mib": mib,
        }
        self._templates.globals |= {
            "origin": origin,
            "version": version,
            "is_dev": is_dev,
            "static": lambda name: self.static[name].path,
        }

    def response(
        self,
        session: Session | None,
        template: str,
        values: Mapping[str, Any],
        *,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> Response:
        """The page for this session."""
        text = self.text(session, template, values)
        return Response(text, status_code=status, media_type="text/html; charset=utf-8")

    def text(self, session: Session | None, template: str, values: Mapping[str, Any]) -> str:
        """The page's HTML."""
        is_in = session is not None and not session.must_change and not session.must_enrol
        role = session.principal.role if session is not None and is_in else None
        is_warning = session.is_warning if session else False
        return self._templates.get_template(template).render(
            session=session,
            menu=self.menu_of(role),
            is_warning=is_warning,
            notice=session.take_notice() if session else "",
            **values,
        )

    def menu_of(self, role: Role | None) -> list[NavItem]:
        """What a role finds in the menu; the first is its home."""
        return [] if role is None else [each for each in self._menu if allows(role, each.permission)]


def _finalize(value: Any) -> Any:
    """What stands in a page: markup of ours as it is, every other text with its hidden characters shown."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else visible(value) if isinstance(value, str) else value


def moment(microseconds: int | None) -> Markup:
    """UTC, to the second, as an element that programs read too."""
    if microseconds is None:
        return Markup("")
    try:
        at = datetime.fromtimestamp(microseconds / 1e6, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return escape(microseconds)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S")
    )


def day(microseconds: int) -> str:
    """The date, UTC."""
    try:
        return datetime.fromtimestamp(microseconds / 1e6, tz=UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return str(microseconds)


def clock(microseconds: int) -> str:
    """UTC, to the second, as text alone: for pictures."""
    return datetime.fromtimestamp(microseconds // 1_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def grouped(number: int | None) -> str:
    """1234567 → 1 234 567, with narrow spaces that do not break."""
    return "" if number is None else f"{number:,}".replace(",", "\u202f")


def quoted(text: str) -> str:
    """With marks at both ends: for what may begin or end with a space."""
    return f"“{text}”"


def seconds(microseconds: int | None) -> str:
    """A duration, to three places."""
    return "" if microseconds is None else f"{microseconds / 1e6:.3f} s"


def mib(size: int | None) -> str:
    """Bytes as MiB or GiB."""
    if size is None:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def lines(texts: Iterable[str]) -> list[str]:
    """Each on a line of its own, whatever it holds."""
    return [on_one_line(each) for each in texts]
