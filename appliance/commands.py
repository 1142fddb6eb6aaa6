"""Commands from this host's `appliance` program to the running gateway: one struct for each kind, and the
two answers. They travel over the control socket (`control.py`), each as a line of JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.accounts.terms_form import TermsForm
from appliance.alias_commands import AliasCommand, Vouched
from appliance.audit.verdict import Verification
from appliance.catalog import ModelId, Sha256
from appliance.core import Genre, Purpose, Role
from appliance.evaluating.questions import Name, Named, Question, Texts
from appliance.evaluating.scores import FULL, MAX_CASES, Mark
from appliance.keyslots import Action, SlotName
from appliance.models.cards import Card, File

Field = Literal["key", "user", "session", "addr"]  # what entries have blind indexes of
Thousandths = Annotated[int, Meta(ge=0, le=FULL)]
ShareId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class _Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind", forbid_unknown_fields=True):
    """Base of commands and answers."""


class CreateKey(_Message, frozen=True):
    """`appliance key create`."""

    name: str
    role: Role
    expires_seconds: int | None = None
    replace: bool = False
    stores_responses: bool = False
    terms: TermsForm = TermsForm()


class ChangeKey(_Message, frozen=True):
    """`appliance key change`: what `terms` names is set, what `unset` names is taken back."""

    name_or_id: str
    terms: TermsForm = TermsForm()
    unset: list[str] = []


class RotateKey(_Message, frozen=True):
    """`appliance key rotate`."""

    name_or_id: str
    overlap_seconds: int
    expires_seconds: int | None = None


class RevokeKey(_Message, frozen=True):
    """`appliance key revoke`."""

    name_or_id: str


class ListKeys(_Message, frozen=True):
    """`appliance key list`."""


class CreateAccount(_Message, frozen=True):
    """`appliance account create`."""

    name: str
    role: Role
    expires_seconds: int | None = None
    replace: bool = False


class ListAccounts(_Message, frozen=True):
    """`appliance account list`."""


class ResetAccount(_Message, frozen=True):
    """`appliance account reset`."""

    name_or_id: str


class ResetSecondFactor(_Message, frozen=True):
    """`appliance account reset --second-factor`."""

    name_or_id: str


class DisableAccount(_Message, frozen=True):
    """`appliance account disable`."""

    name_or_id: str


class PublishDocument(_Message, frozen=True):
    """`appliance prompt publish`, `appliance policy publish`."""

    document: Genre
    name: str
    text: Annotated[str, Meta(max_length=262_144)]


class ListDocuments(_Message, frozen=True):
    """`appliance prompt list`, `appliance policy list`."""

    document: Genre


class ShowDocument(_Message, frozen=True):
    """`appliance prompt show`, `appliance policy show`."""

    document: Genre
    reference: str


class WithdrawDocument(_Message, frozen=True):
    """`appliance prompt withdraw`, `appliance policy withdraw`."""

    document: Genre
    reference: str


class ImportModel(_Message, frozen=True):
    """`appliance model import`: its files were checked, and lie in the store."""

    id: ModelId
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1, lt=1 << 53)]
    purpose: Purpose
    file: Annotated[str, Meta(min_length=1, max_length=255)]
    licence: Annotated[str, Meta(min_length=1, max_length=100)]
    origin: Annotated[str, Meta(max_length=1000)]
    card: Card
    parts: Annotated[list[File], Meta(max_length=1000)] = []
    signed_by: Annotated[str, Meta(max_length=255)] | None = None
    accepted_by: Vouched | None = None  # whose yes the licence has


class RefuseModel(_Message, frozen=True):
    """`appliance model import`: a file was not taken into the store."""

    code: Annotated[str, Meta(pattern="^[a-z_]{1,64}$")]
    reason: Annotated[str, Meta(max_length=2000)]
    file: Annotated[str, Meta(max_length=255)]
    origin: Annotated[str, Meta(max_length=1000)] = ""
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class RemoveModel(_Message, frozen=True):
    """`appliance model remove`."""

    id: ModelId
    why: Annotated[str, Meta(max_length=1000)] = ""


class ListModels(_Message, frozen=True):
    """`appliance model list`."""


class RecordReading(_Message, frozen=True):
    """An auditor's search or reading goes on the record before its result is shown."""

    event: str
    public: dict[str, str | int]
    content: dict[str, Any]
    shares: list[ShareId] = []  # ids of the shares that the reading needs: they come with the answer
    purpose: Annotated[str, Meta(max_length=500)] = ""
    case: Annotated[str, Meta(max_length=100)] = ""
    reader: Annotated[str, Meta(max_length=500)] = ""  # fingerprints, where identities were used


class ChangePolicy(_Message, frozen=True):
    """`appliance auditor apply`: an act that a quorum of auditors signed."""

    act: str


class Erase(_Message, frozen=True):
    """`appliance audit erase apply`: an act that two members of the key policy signed."""

    act: str


class Recover(_Message, frozen=True):
    """`appliance audit recover`: verify, and unlatch."""


class Verified(_Message, frozen=True):
    """`appliance audit verify` on this home: the result goes on the record, and a red one latches."""

    result: Verification


class Done(_Message, frozen=True):
    """The act is durable on the record; `result` is what the program shows."""

    result: dict[str, Any]


class Problem(_Message, frozen=True):
    """The act did not happen."""

    code: str
    message: str
    hint: str = ""
    family: str = "RequestError"  # the branch of the tree of errors: decides the exit code


class PlaceHold(_Message, frozen=True):
    """`appliance audit hold place`. Times in microseconds."""

    key: str
    user: str
    since_us: Annotated[int, Meta(ge=0, lt=1 << 53)]
    until_us: Annotated[int, Meta(ge=0, lt=1 << 53)] | None
    reason: str


class LiftHold(_Message, frozen=True):
    """`appliance auditor apply` of an act that ends a hold."""

    act: str


class Retain(_Message, frozen=True):
    """`appliance audit retain`: remove contents whose time is over."""

    dry_run: bool = False


class BackUp(_Message, frozen=True):
    """`appliance db backup`: the database was copied; shares and box file follow now."""

    backup_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    tree_size: Annotated[int, Meta(ge=0, lt=1 << 53)]
    schema: Annotated[str, Meta(max_length=64)]
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
    head: Annotated[str, Meta(max_length=20_000)]


class BlindIndexes(_Message, frozen=True):
    """`appliance audit search --key ID --user NAME`: what stands for them in this month's entries."""

    fields: dict[Field, Annotated[str, Meta(min_length=1, max_length=10_000)]]


class AddWitness(_Message, frozen=True):
    """`appliance audit witness add`: the text of a witness's public file."""

    vkeys: str


class TakeCosignatures(_Message, frozen=True):
    """`appliance audit witness import`: a checkpoint of this log with what witnesses said below it."""

    note: str


class SelfTest(_Message, frozen=True):
    """`appliance doctor --live`: is it ready, and, with `generate`, does the model answer on the record?"""

    generate: bool = True


class AskModel(_Message, frozen=True):
    """`appliance model eval`: one case's question, by a model's id or an alias."""

    model: Name
    question: Question


class EmbedTexts(_Message, frozen=True):
    """`appliance model eval`: what an answer and the texts of its case mean."""

    model: Name
    texts: Texts


class Compared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another model, as it did in the same cases."""

    model: Named
    score_thousandths: Thousandths


class RecordEvaluation(_Message, frozen=True):
    """`appliance model eval`: what came of a suite. The score is reckoned where it is recorded."""

    model: Named
    suite: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    suite_sha256: Sha256
    marks: Annotated[list[Mark], Meta(min_length=1, max_length=MAX_CASES)]
    floor_thousandths: Thousandths
    against: Compared | None = None
    embeddings: Named | None = None


class Look(_Message, frozen=True):
    """`appliance doctor`: what the running gateway says at `/readyz`."""


class OpenDoors(_Message, frozen=True):
    """The installer has committed: callers come in."""


class RecordCertificate(_Message, frozen=True):
    """`appliance tls init|issue|renew`: a certificate was made. `not_after` as RFC 3339 in UTC."""

    certificate_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    not_after: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")]
    is_authority: Literal[0, 1]
    subject: Annotated[str, Meta(max_length=500)]
    names: Annotated[list[Annotated[str, Meta(max_length=300)]], Meta(max_length=100)]


class RecordSecrets(_Message, frozen=True):
    """`appliance secrets seal|add|…`: what opens the home's secrets from now on, by its slots' names."""

    action: Action
    passphrases: Annotated[list[SlotName], Meta(max_length=16)]
    credentials: Annotated[list[SlotName], Meta(max_length=16)]


class RecordBundle(_Message, frozen=True):
    """What became of an offline bundle goes on the record."""

    event: Literal[
        "bundle:verified",
        "bundle:refused",
        "bundle:installed",
        "bundle:rolled_back",
        "bundle:repaired",
        "bundle:uninstalled",
    ]
    public: dict[str, str | int]
    content: dict[str, Annotated[str, Meta(max_length=2000)]]


DocumentCommand = PublishDocument | ListDocuments | ShowDocument | WithdrawDocument
ModelCommand = ImportModel | RefuseModel | RemoveModel | ListModels
LiveCommand = SelfTest | AskModel | EmbedTexts | Look | OpenDoors  # only a running gateway can
Command = (
    CreateKey
    | ChangeKey
    | RotateKey
    | RevokeKey
    | ListKeys
    | CreateAccount
    | ListAccounts
    | ResetAccount
    | ResetSecondFactor
    | DisableAccount
    | DocumentCommand
    | AliasCommand
    | ModelCommand
    | RecordReading
    | Recover
    | ChangePolicy
    | Erase
    | PlaceHold
    | LiftHold
    | Retain
    | BackUp
    | BlindIndexes
    | Verified
    | AddWitness
    | TakeCosignatures
    | LiveCommand
    | RecordEvaluation
    | RecordBundle
    | RecordCertificate
    | RecordSecrets
)
Answer = Done | Problem
