"""`appliance.toml` → one frozen tree of settings. The only reader of the environment.

Every limit has its unit in its name; unknown keys are errors; paths are derived from the home and
never configured one by one.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance import engine_settings
from appliance.allowances import Limits
from appliance.engine_settings import Engine
from appliance.errors import SetupError
from appliance.unlocking import CREDENTIAL, Unlocking

EMBEDDED = "sqlite"
HOME_VARIABLE = "APPLIANCE_HOME"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # set by systemd, for the service's own processes
CONFIG_NAME = "appliance.toml"

Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]  # 0 lets the system choose, for tests
Origin = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._/-]{2,99}$")]


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the API listens, and what it reads at most from one caller."""

    host: str = "127.0.0.1"
    port: Port = 8080
    tls_certificate: str = ""
    tls_key: str = ""
    tls_oldest: Literal["1.2", "1.3"] = "1.3"  # the oldest version of TLS that is spoken
    client_certificates: Literal["off", "optional", "required"] = "off"  # of the API's port
    client_ca: str = ""  # PEM: whose clients are believed
    client_crl: str = ""  # PEM: what they took back; empty: nobody looks
    max_body_bytes: Positive = 2 * 1024 * 1024
    body_timeout_seconds: Positive = 30  # of a whole body
    max_header_bytes: Annotated[int, Meta(ge=4096, le=1 << 20)] = 32 * 1024
    header_timeout_seconds: Positive = 10  # of a handshake, and of a whole request line with its headers
    keep_alive_seconds: Positive = 60
    send_timeout_seconds: Positive = 30
    max_connections: Positive = 1000  # of each port
    max_connections_per_address: Positive = 250
    shutdown_grace_seconds: Positive = 10
    idempotency_minutes: Annotated[int, Meta(ge=1, le=1440)] = 10

    @property
    def certificate(self) -> Path:
        return Path(self.tls_certificate)

    @property
    def key(self) -> Path:
        return Path(self.tls_key)


PersonsRole = Literal["operator", "admin", "auditor", "privacy", "witness"]


class Console(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where people's pages are served, with the certificate of `server`, and how long a session lasts."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 8090
    idle_minutes: Annotated[int, Meta(ge=1, le=480)] = 15
    session_hours: Annotated[int, Meta(ge=1, le=24)] = 8
    second_factor: Annotated[tuple[PersonsRole, ...], Meta(max_length=5)] = ()  # roles that must have one


Words = Annotated[str, Meta(max_length=2000)]


class Kiosk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page for a lobby's screen. Empty texts: what the language says by itself."""

    language: Annotated[str, Meta(pattern="^[a-z]{2}$")] = "en"
    title: Words = ""
    welcome: Words = ""
    notice: Words = ""  # that conversations are recorded, in the words of the agency
    system_prompt: Annotated[str, Meta(max_length=100_000)] = ""
    model: Annotated[str, Meta(min_length=1, max_length=200)] = "default"
    max_tokens: Annotated[int, Meta(ge=16, le=8192)] = 400
    max_turns: Annotated[int, Meta(ge=1, le=50)] = 8  # questions of one conversation
    max_question_characters: Annotated[int, Meta(ge=50, le=10_000)] = 1000
    examples: Annotated[tuple[Words, ...], Meta(max_length=8)] = ()
    idle_seconds: Annotated[int, Meta(ge=10, le=3600)] = 60  # then the screen is cleared


class Responses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Responses that a key may have kept for its next question (`appliance key create --store-responses`)."""

    store_hours: Annotated[int, Meta(ge=1, le=720)] = 24
    # Of one key; its oldest ones make room for a new one.
    store_max_responses: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    store_max_mib: Annotated[int, Meta(ge=16, le=65_536)] = 64


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the log is written. `origin` names this log for ever: it is part of every checkpoint."""

    origin: Origin = "appliance.local/audit/1"
    stream: Literal["strict", "final"] = "strict"
    segment_ms: Annotated[int, Meta(ge=10, le=10_000)] = 250
    commit_timeout_seconds: Positive = 2
    refusal_burst: Positive = 20  # refusals recorded one by one, per address and second
    witness_max_age_days: Annotated[int, Meta(ge=1, le=366)] = 7  # an older visit raises an alarm
    epoch_seconds: Annotated[int, Meta(ge=10, le=86_400)] = 600
    # Days that the contents of a kind of entry are kept, 183 to 3660; for ever where it is not named.
    retention_days: dict[str, int] = {}
    # Days that a backup of the shares is kept: what was erased comes back from nowhere after that.
    share_backup_days: Annotated[int, Meta(ge=1, le=365)] = 30
    epoch_records: Annotated[int, Meta(ge=16, le=65_536)] = 4096
    verify_minutes: Annotated[int, Meta(ge=1, le=10_080)] = 60
    verify_full_days: Annotated[int, Meta(ge=1, le=366)] = 7
    review_days: Annotated[int, Meta(ge=1, le=366)] = 7  # then an auditor should have looked through
    heartbeat_seconds: Annotated[int, Meta(ge=10, le=86_400)] = 3600
    # Of one reader: above it nothing more is shown for a while, and the record says so.
    searches_per_hour: Positive = 1000
    reads_per_hour: Positive = 200
    ballast_mib: Annotated[int, Meta(ge=0)] = 64  # given up for the last entries on a full disk
    min_free_mib: Annotated[int, Meta(ge=0)] = 256  # below it nothing new is admitted
    any_filesystem: bool = False


CryptoProfile = Literal["standard", "fips"]


class Crypto(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which algorithms the log uses; chosen by `appliance init`, for as long as the log lives."""

    profile: CryptoProfile = "standard"


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operational log: JSON lines on standard error, or in a file."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    file: str = ""


class Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models aliases may stand for."""

    require_evaluation: bool = False


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `appliance.toml`."""

    profile: Literal["dev", "production"] = "dev"
    database_url: str = EMBEDDED  # inside the home, or a server's: postgresql://…
    default_model: str = "smollm2-135m-instruct"
    server: Server = msgspec.field(default_factory=Server)
    console: Console = msgspec.field(default_factory=Console)
    kiosk: Kiosk = msgspec.field(default_factory=Kiosk)
    engine: Engine = msgspec.field(default_factory=Engine)
    models: Models = msgspec.field(default_factory=Models)
    limits: Limits = msgspec.field(default_factory=Limits)
    responses: Responses = msgspec.field(default_factory=Responses)
    audit: Audit = msgspec.field(default_factory=Audit)
    crypto: Crypto = msgspec.field(default_factory=Crypto)
    log: Log = msgspec.field(default_factory=Log)

    def __repr__(self) -> str:
        """Without the database's URL, which may hold a password."""
        return f"Settings(profile={self.profile!r}, origin={self.audit.origin!r})"


class Home(msgspec.Struct, frozen=True):
    """The one directory that holds all state of an appliance, and what opens its secrets (`keyring`)."""

    root: Path
    unlocking: Unlocking = msgspec.field(default_factory=Unlocking)

    @property
    def config(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def database(self) -> Path:
        return self.root / "appliance.db"

    @property
    def shares(self) -> Path:
        """The appliance's half of every record's key; apart, because its backups live shorter."""
        return self.root / "shares.db"

    @property
    def responses(self) -> Path:
        """Responses that keys had stored, sealed to those keys; lives by hours, and is in no backup."""
        return self.root / "responses.db"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def key_uses(self) -> Path:
        """When each API key was used last: advisory, and in no backup."""
        return self.root / "key-uses.json"

    @property
    def slots(self) -> Path:
        """Who opens the secrets; there where they are sealed."""
        return self.keys / "home.slots"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def tls(self) -> Path:
        """The site's own authority and the server's certificate, where `appliance tls` made them."""
        return self.root / "tls"

    @property
    def tuning(self) -> Path:
        """What was measured for each model on this machine."""
        return self.root / "tuning"

    @property
    def head(self) -> Path:
        """Origin, size and root of the log, outside the database: its memory against rollback."""
        return self.root / "head"

    @property
    def latch(self) -> Path:
        return self.root / "latch"

    @property
    def ballast(self) -> Path:
        """Takes up room that the log's last entries need when the disk is full."""
        return self.root / "ballast"

    @property
    def lock(self) -> Path:
        """Held with flock by the one process that writes the database."""
        return self.root / "lock"

    @property
    def control_socket(self) -> Path:
        """Where the running gateway takes commands from this host's `appliance` program."""
        return self.root / "control.sock"

    @property
    def probation(self) -> Path:
        """There while an upgrade may yet be undone: the gateway lets nobody in (`doors`)."""
        return self.root / "probation"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def archive(self) -> Path:
        """Databases that others took the place of; nothing in here is ever deleted by the appliance."""
        return self.root / "archive"

    @property
    def restored(self) -> Path:
        """Which box file this home came out of; there only until it is on the record."""
        return self.root / "restored"

    @property
    def ceremony(self) -> Path:
        """The act of a ceremony that is being carried out; there only until it is finished."""
        return self.root / "ceremony.act"


def find_home(explicit: str | None) -> Home:
    """`--home`, else $APPLIANCE_HOME, else ./var. A credential that systemd handed over may open it."""
    folder = credentials().get(CREDENTIALS_VARIABLE)
    return Home(
        root=Path(explicit or os.environ.get(HOME_VARIABLE) or "var").absolute(),
        unlocking=Unlocking(Path(folder) / CREDENTIAL if folder else None),
    )


def credentials() -> dict[str, str]:
    """Where systemd laid a service's credentials, as a program that we start wants to be told; or nothing."""
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    return {CREDENTIALS_VARIABLE: folder} if folder else {}


def variables(*prefixes: str) -> list[str]:
    """Names in the environment that begin so, in any case; never their values."""
    wanted = tuple(each.upper() for each in prefixes)
    return sorted(name for name in os.environ if name.upper().startswith(wanted))


def parse(text: str, *, source: str = CONFIG_NAME) -> Settings:
    """Settings from TOML. SetupError names the key that is wrong, and where it stands."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
        settings = msgspec.convert(raw, Settings)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{source} is not valid TOML: {error}", code="bad_config") from error
    except msgspec.ValidationError as error:
        raise SetupError(
            f"{source}: {error}", code="bad_config", hint="see deploy/appliance.example.toml"
        ) from error
    _check(settings, source)
    return settings


def load(home: Home) -> Settings:
    """The home's settings; a home without a file has not been initialised."""
    try:
        text = home.config.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SetupError(
            f"no {CONFIG_NAME} in {home.root}",
            code="not_initialised",
            hint="run: appliance init --home DIR",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"can not read {home.config}: {error}", code="bad_config") from error
    return parse(text, source=str(home.config))


def is_server(database_url: str) -> bool:
    """Whether a URL asks for PostgreSQL, in one of the two spellings that libpq takes."""
    return database_url.startswith(("postgresql://", "postgres://"))


def _check(settings: Settings, source: str) -> None:
    if settings.database_url != EMBEDDED and not is_server(settings.database_url):
        raise SetupError(
            f"{source}: database_url must be '{EMBEDDED}' or begin with postgresql://", code="bad_config"
        )
    if bool(settings.server.tls_certificate) != bool(settings.server.tls_key):
        raise SetupError(f"{source}: tls_certificate and tls_key go together", code="bad_config")
    if settings.profile == "production" and not settings.server.tls_certificate:
        raise SetupError(
            f"{source}: profile 'production' serves over TLS only",
            code="tls_required",
            hint="set server.tls_certificate and server.tls_key",
        )
    _check_clients(settings.server, source)
    if problem := engine_settings.problem(settings.engine):
        raise SetupError(f"{source}: {problem}", code="bad_config")


def _check_clients(server: Server, source: str) -> None:
    if server.client_certificates == "off":
        return
    if not server.client_ca or not server.tls_certificate:
        raise SetupError(
            f"{source}: client_certificates are asked for over TLS, and believed by client_ca",
            code="bad_config",
            hint="set server.tls_certificate, server.tls_key and server.client_ca",
        )
    if server.tls_oldest != "1.3":
        raise SetupError(
            f"{source}: client_certificates need tls_oldest = '1.3'",
            code="bad_config",
            hint="before TLS 1.3 a certificate crosses the network in the clear",
        )
