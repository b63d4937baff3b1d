"""The registry as people look at it: versions, two of them side by side, removal debts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import try_open_dataset
from infra.dataset.step import Steps
from infra.registry.history import ALIASES, ModelState, load_history, model_state
from infra.registry.versions import (
    Version,
    VersionNotFoundError,
    load_version,
    load_versions,
)
from infra.schemas.metrics import ITEMS, compare_items, higher_is_better, metric_name, read_items
from infra.statistics.comparison import PairedDifference, classify_difference, correct_holm
from infra.store.storage import Storage
from lm.metrics.conditions import Measurements
from views.models.measurements import measure_version
from views.removal.apply import refresh_exposure
from views.removal.exposure import ExposureRecord

SEPARATOR = "@"  # between a model's name and an alias or a number


@dataclass(frozen=True)
class ListedVersion:
    """A version with what became of it."""

    version: Version
    alias: str
    withdrawn: bool

    @property
    def status(self) -> str:
        """What a reader should know first: ``champion``, ``challenger``, ``withdrawn``, or its state."""
        return self.alias or ("withdrawn" if self.withdrawn else self.version.state)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; of the installed packages, none."""
        value = self.version.to_json()
        del value["packages"], value["format"]
        return {**value, "alias": self.alias or None, "withdrawn": self.withdrawn}


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of two versions.

    Attributes:
        name: of the metric.
        a: the first version's value; ``None`` if it has none.
        b: the second version's.
        difference: a minus b over the items that both were measured on; ``None`` without such items.
        answer: whether the first is better, with p-values corrected over all metrics (Holm 1979).
    """

    name: str
    a: float | None
    b: float | None
    difference: PairedDifference | None = None
    answer: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Debt:
    """A version that was trained or validated on documents which were removed since."""

    listed: ListedVersion
    exposure: ExposureRecord

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        number = self.listed.version.number
        return {"version": number, "alias": self.listed.alias or None, **self.exposure.to_json()}

    def __str__(self) -> str:
        alias = f", {self.listed.alias}" if self.listed.alias else ""
        return f"version {self.listed.version.number}{alias}: {self.exposure}"


def list_versions(storage: Storage, recipe: str) -> list[ListedVersion]:
    """Return the versions of a recipe, the newest first."""
    history = load_history(storage, recipe)
    states: dict[str, ModelState] = {}
    listed = []
    for version in reversed(load_versions(storage, recipe)):
        state = states.setdefault(version.model, model_state(history, version.model))
        withdrawn = version.number in state.withdrawn
        listed.append(ListedVersion(version, state.alias_of(version.number), withdrawn))
    return listed


def resolve_version(storage: Storage, recipe: str, text: str) -> Version:
    """Return the version that a user names.

    Args:
        storage: root of the store.
        recipe: the recipe's name.
        text: a number; an alias, if only one model has it; ``MODEL@ALIAS``; or ``MODEL``, which stands for
            its champion.

    Raises:
        VersionNotFoundError: if it names none, or several.
    """
    if text.isdecimal():
        return load_version(storage, recipe, int(text))
    history = load_history(storage, recipe)
    models = sorted({version.model for version in load_versions(storage, recipe)})
    aliases = {
        (model, alias): number
        for model in models
        for alias, number in model_state(history, model).aliases.items()
    }
    model, separator, alias = text.rpartition(SEPARATOR)
    if separator:
        found = [number for key, number in aliases.items() if key == (model, alias)]
    elif text in ALIASES:
        found = [number for (_, name), number in aliases.items() if name == text]
    else:
        found = [number for key, number in aliases.items() if key == (text, ALIASES[0])]
    if len(found) == 1:
        return load_version(storage, recipe, found[0])
    named = ", ".join(f"{model}{SEPARATOR}{name}" for model, name in aliases) or "none"
    what = "names several versions" if found else "names no version"
    raise VersionNotFoundError(
        f"{storage.url}: {text!r} {what} of {recipe}; give a number of `gristmill models list`, or an alias: "
        f"{named}"
    )


def compare_versions(storage: Storage, a: Version, b: Version) -> list[ComparedMetric]:
    """Compare the metrics of two versions; over the same items where both have values per item."""
    measured = [measure_version(storage, version) for version in (a, b)]
    items = [_load_items(storage, version) for version in (a, b)]
    differences = {metric_name(*key): item for key, item in compare_items(*items).items()}
    corrected = correct_holm([_p_value(item) for item in differences.values()])
    answers = {
        name: classify_difference(
            item.value, p_value, higher_is_better=_is_higher_better(measured, name)
        )
        for (name, item), p_value in zip(differences.items(), corrected, strict=True)
    }
    values = [version.metric_values for version in (a, b)]
    names = sorted({name for known in values for name in known})
    return [
        ComparedMetric(
            name,
            values[0].get(name),
            values[1].get(name),
            differences.get(name),
            answers.get(name, ""),
        )
        for name in names
    ]


def list_debts(storage: Storage, recipe: str, steps: Steps) -> list[Debt]:
    """Return the versions of a recipe that were trained or validated on what was removed since."""
    exposures = {item.path: item for item in refresh_exposure(storage, recipe, steps)}
    return [
        Debt(listed, exposures[listed.version.trained])
        for listed in list_versions(storage, recipe)
        if listed.version.trained in exposures
    ]


def _load_items(storage: Storage, version: Version) -> pa.Table:
    opened = (try_open_dataset(storage, path) for path in version.scores)
    return pa.concat_tables(
        [ITEMS.empty_table(), *(read_items(data) for data in opened if data is not None)]
    )


def _p_value(difference: PairedDifference) -> float:
    return 1.0 if difference.p_value is None else difference.p_value


def _is_higher_better(measured: Sequence[Measurements], name: str) -> bool:
    known: Mapping[str, bool] = measured[0].higher_is_better
    return known.get(name, higher_is_better(name))
