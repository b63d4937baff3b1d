"""Versions of models: one immutable file each below ``registry/{recipe}/versions/``.

A number is taken by a conditional put, so two runs that register at the same time get two numbers, and nobody
ever reads half a version. A version says what a model is, what it was measured, and how its gates turned
out; what became of it is in the history (``infra.registry.history``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.errors import UserError
from infra.store.environment import mask
from infra.store.storage import Storage

REGISTRY = "registry"
VERSIONS = "versions"
FORMAT_VERSION = 1
# How the gates turned out; ``HELD``: a person decides.
PASSED, FAILED, HELD = "passed", "failed", "held"


class CorruptRegistryError(UserError):
    """A file below ``registry/`` cannot be read; the message names it."""


class VersionNotFoundError(UserError):
    """There is no such version, alias or model; the message lists what there is."""


@dataclass(frozen=True)
class Evidence:
    """How one gate turned out.

    Attributes:
        gate: its condition, as written in the recipe.
        passed: whether it holds.
        value: of the model's metric; ``None`` if the model has none, which fails.
        limit: what it was compared with.
        low: lower end of the 95 % interval of the value, or of the difference from the champion.
        high: upper end.
        n: number of items that it rests on.
        champion: version that it was compared with; ``None`` for a fixed limit.
        note: what a reader must know: no champion yet, no such metric, only a part of the items in common.
    """

    gate: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    champion: int | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Version:
    """A registered model.

    Attributes:
        number: 1, 2, ... within the recipe; 0 before it is registered.
        recipe: the recipe's name.
        model: the model's name in the recipe.
        subject: digest of what was judged: the export, its scores, debts, and the gates.
        weights: digest of the files of its export.
        state: ``passed``, ``failed`` or ``held``.
        trained: folder of its weights, relative to the storage root.
        export: folder of its release.
        scores: folders of its scores: evaluation, or predictions of a task.
        run: the run that registered it.
        created: ISO 8601, UTC.
        champion: version that it was compared with; ``None`` if there was none.
        on_pass: what the recipe asked for if all gates pass: ``promote`` or ``hold``.
        metrics: rows of ``infra.schemas.metrics``.
        gates: the evidence, one per gate.
        packages: distributions that were installed where it was registered, with their versions.
    """

    number: int
    recipe: str
    model: str
    subject: str
    weights: str
    state: str
    trained: str
    export: str
    scores: Sequence[str]
    run: str
    created: str
    champion: int | None
    on_pass: str
    metrics: Sequence[Mapping[str, Any]] = ()
    gates: Sequence[Evidence] = ()
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def metric_values(self) -> dict[str, float | None]:
        """The values of the metrics by their names."""
        return {row["name"]: row["value"] for row in self.metrics}

    @property
    def failed_gates(self) -> list[Evidence]:
        """The gates that do not hold."""
        return [item for item in self.gates if not item.passed]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, as written."""
        return {"format": FORMAT_VERSION, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Version":
        """Restore what ``to_json`` returned. Raises ``ValueError``, ``KeyError`` or ``TypeError``."""
        rest = dict(value)
        if rest.pop("format") != FORMAT_VERSION:
            raise ValueError(f"format {value['format']}")
        gates = [Evidence(**item) for item in rest.pop("gates")]
        return Version(**rest, gates=gates)


def register_version(storage: Storage, draft: Version) -> Version:
    """Register a version under the next number.

    What was judged before, against the same champion, is not registered again.

    Returns:
        The version with its number.
    """
    while True:
        known = load_versions(storage, draft.recipe)
        for version in known:
            judged = (version.model, version.subject, version.champion)
            if judged == (draft.model, draft.subject, draft.champion):
                return version
        version = replace(draft, number=known[-1].number + 1 if known else 1)
        data = json.dumps(mask(version.to_json()), indent=1, ensure_ascii=False) + "\n"
        if storage.put_if_absent(_path(draft.recipe, version.number), data.encode()):
            return Version.from_json(json.loads(data))


def load_versions(storage: Storage, recipe: str, model: str | None = None) -> list[Version]:
    """Return the versions of a recipe, or of one of its models, by number.

    Raises:
        CorruptRegistryError: if one cannot be read.
    """
    names = storage.list_files(f"{REGISTRY}/{recipe}/{VERSIONS}")
    versions = [_read(storage, name) for name in names]
    return [item for item in versions if model in (None, item.model)]


def load_version(storage: Storage, recipe: str, number: int) -> Version:
    """Return one version.

    Raises:
        VersionNotFoundError: if there is none of this number.
    """
    try:
        return _read(storage, _path(recipe, number))
    except FileNotFoundError:
        known = ", ".join(str(item.number) for item in load_versions(storage, recipe)) or "none"
        raise VersionNotFoundError(
            f"{storage.url}: {recipe} has no version {number}; versions: {known}"
        ) from None


def list_registries(storage: Storage) -> list[str]:
    """Return the recipes of the store that have a registered model, sorted."""
    return storage.list_folders(REGISTRY)


def _path(recipe: str, number: int) -> str:
    return f"{REGISTRY}/{recipe}/{VERSIONS}/{number:06d}.json"


def _read(storage: Storage, path: str) -> Version:
    try:
        return Version.from_json(json.loads(storage.read(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRegistryError(f"{storage.url}/{path}: not a version ({error!r})") from error
