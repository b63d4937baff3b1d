"""The history of a registry: who moved which alias, when, why and from what; appended, never changed.

An event is one file below ``registry/{recipe}/history/``. Its number is taken by a conditional put, and it says
what the alias named before, so of two who move an alias at the same time one wins and the other is told. What
an alias names follows from the events alone.
"""

import getpass
import json
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import UserError
from infra.registry.versions import (
    HELD,
    REGISTRY,
    CorruptRegistryError,
    Version,
    VersionNotFoundError,
    load_version,
    load_versions,
)
from infra.store.environment import mask
from infra.store.storage import Storage

HISTORY = "history"
FORMAT_VERSION = 1
CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES = (CHAMPION, CHALLENGER)
# Actions: an alias is set; the champion is taken back to the one before; a held version is turned down.
PROMOTE, ROLLBACK, REJECT = "promote", "rollback", "reject"


class AliasMovedError(UserError):
    """Another one has moved the alias meanwhile; the message says who and to what."""


@dataclass(frozen=True)
class Event:
    """What was decided about a version.

    Attributes:
        number: 1, 2, ... within the recipe.
        action: ``promote``, ``rollback`` or ``reject``.
        model: name of the model.
        alias: that names ``version`` now; ``None`` for ``reject``.
        version: that the alias names now, or that was rejected.
        previous: that the alias named before; ``None`` if it named none.
        by: who decided.
        at: ISO 8601, UTC.
        reason: why.
        token: makes the file unlike any other, so that its writer knows whose it is.
    """

    number: int
    action: str
    model: str
    alias: str | None
    version: int
    previous: int | None
    by: str
    at: str
    reason: str
    token: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, as written."""
        return {"format": FORMAT_VERSION, **asdict(self)}

    def __str__(self) -> str:
        verb = {PROMOTE: f"{self.alias}: version", ROLLBACK: f"{self.alias}: back to version"}
        before = f" (before: {self.previous})" if self.previous is not None else ""
        what = verb.get(self.action, "rejected: version")
        return (
            f"{self.at}  {self.model}  {what} {self.version}{before}, by {self.by}: {self.reason}"
        )


@dataclass(frozen=True)
class ModelState:
    """What follows from the history of one model.

    Attributes:
        champions: versions that were promoted and not rolled back from, the current champion last.
        challenger: the version that waits for a decision; ``None`` if none does.
        withdrawn: versions that were rolled back from, or rejected, and not promoted since.
        decided: versions that any event is about.
    """

    champions: Sequence[int]
    challenger: int | None
    withdrawn: frozenset[int]
    decided: frozenset[int]

    @property
    def champion(self) -> int | None:
        """The current champion."""
        return self.champions[-1] if self.champions else None

    @property
    def aliases(self) -> Mapping[str, int]:
        """Versions by alias; an alias that names none is left out."""
        named = {CHAMPION: self.champion, CHALLENGER: self.challenger}
        return {alias: number for alias, number in named.items() if number is not None}

    def alias_of(self, number: int) -> str:
        """Return the aliases of a version, joined; empty if it has none."""
        return ", ".join(alias for alias, version in self.aliases.items() if version == number)


def load_history(storage: Storage, recipe: str) -> list[Event]:
    """Return the events of a recipe, oldest first.

    Raises:
        CorruptRegistryError: if one cannot be read, or is missing. A decision is never silently ignored.
    """
    events = [_read(storage, path) for path in storage.list_files(f"{REGISTRY}/{recipe}/{HISTORY}")]
    for expected, event in enumerate(events, 1):
        if event.number != expected:
            path = _path(recipe, expected)
            raise CorruptRegistryError(f"{storage.url}/{path} is missing: restore it from a backup")
    return events


def model_state(history: Sequence[Event], model: str) -> ModelState:
    """Return what the history says of a model."""
    champions: list[int] = []
    challenger: int | None = None
    withdrawn: set[int] = set()
    decided: set[int] = set()
    for event in history:
        if event.model != model:
            continue
        decided.add(event.version)
        if event.action == REJECT:
            withdrawn.add(event.version)
        elif event.action == ROLLBACK:
            withdrawn.add(champions.pop())
        elif event.alias == CHAMPION:
            champions.append(event.version)
            withdrawn.discard(event.version)
        else:
            challenger = event.version
            continue
        if event.action != ROLLBACK and challenger == event.version:
            challenger = None
    return ModelState(champions, challenger, frozenset(withdrawn), frozenset(decided))


def needed_folders(storage: Storage, recipe: str) -> set[str]:
    """Return the data sets that aliases, held versions and a rollback need, relative to the storage root."""
    history = load_history(storage, recipe)
    folders: set[str] = set()
    for version in load_versions(storage, recipe):
        state = model_state(history, version.model)
        waits = version.state == HELD and version.number not in state.withdrawn
        if waits or version.number in (*state.champions, state.challenger):
            folders |= {version.export, *version.scores}
    return folders


def promote(
    storage: Storage,
    version: Version,
    *,
    by: str,
    reason: str,
    alias: str = CHAMPION,
    expected: Sequence[Event] | None = None,
) -> Event | None:
    """Make an alias name a version.

    Args:
        storage: root of the store.
        version: a registered version.
        by: who decides.
        reason: why.
        alias: ``champion`` or ``challenger``.
        expected: the history that the decision was made on; default: as it is now.

    Returns:
        The event; ``None`` if the alias names the version already.

    Raises:
        AliasMovedError: if the alias was moved since ``expected``, or meanwhile.
    """
    history = load_history(storage, version.recipe) if expected is None else expected
    previous = model_state(history, version.model).aliases.get(alias)
    if previous == version.number:
        return None
    return _append(
        storage, version, history, PROMOTE, alias, version.number, previous, by=by, reason=reason
    )


def roll_back(storage: Storage, recipe: str, model: str, *, by: str, reason: str) -> Event:
    """Make ``champion`` name the version that it named before.

    Raises:
        VersionNotFoundError: if there is no earlier champion.
        AliasMovedError: if the alias was moved meanwhile.
    """
    history = load_history(storage, recipe)
    champions = model_state(history, model).champions
    if len(champions) < 2:
        now = f"version {champions[-1]}" if champions else "none"
        raise VersionNotFoundError(
            f"{recipe}: {model} has no earlier champion to go back to; the champion is {now}"
        )
    target, previous = champions[-2], champions[-1]
    version = load_version(storage, recipe, target)
    return _append(
        storage, version, history, ROLLBACK, CHAMPION, target, previous, by=by, reason=reason
    )


def reject(storage: Storage, version: Version, *, by: str, reason: str) -> Event:
    """Turn a version down: it is not promoted by a later run.

    Raises:
        UserError: if it is the champion, which is rolled back instead.
        AliasMovedError: if it was promoted meanwhile.
    """
    history = load_history(storage, version.recipe)
    if model_state(history, version.model).champion == version.number:
        raise UserError(f"version {version.number} is the champion; use: gristmill models rollback")
    return _append(
        storage, version, history, REJECT, None, version.number, None, by=by, reason=reason
    )


def current_user() -> str:
    """Return who acts: the user of this process and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _append(
    storage: Storage,
    version: Version,
    seen: Sequence[Event],
    action: str,
    alias: str | None,
    number: int,
    previous: int | None,
    *,
    by: str,
    reason: str,
) -> Event:
    """Append an event, unless another one about this model came after ``seen``."""
    recipe, history = version.recipe, list(seen)
    while True:
        event = Event(
            number=len(history) + 1,
            action=action,
            model=version.model,
            alias=alias,
            version=number,
            previous=previous,
            by=by,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            reason=reason,
            token=secrets.token_hex(8),
        )
        data = json.dumps(mask(event.to_json()), indent=1, ensure_ascii=False) + "\n"
        if storage.put_if_absent(_path(recipe, event.number), data.encode()):
            return event
        history = load_history(storage, recipe)
        other = next((e for e in reversed(history[len(seen) :]) if e.model == version.model), None)
        if other is not None:
            raise AliasMovedError(
                f"{recipe}: another one has decided about {version.model} meanwhile, and nothing was changed "
                f"here: {other}"
            )


def _path(recipe: str, number: int) -> str:
    return f"{REGISTRY}/{recipe}/{HISTORY}/{number:06d}.json"


def _read(storage: Storage, path: str) -> Event:
    try:
        value = json.loads(storage.read(path))
        if value.pop("format") != FORMAT_VERSION:
            raise ValueError("another format")
        return Event(**value)
    except (ValueError, KeyError, TypeError) as error:
        message = f"{storage.url}/{path}: not a decision of the registry ({error!r})"
        raise CorruptRegistryError(message) from error
