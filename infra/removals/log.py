"""The log of removals: one file per command below ``removals/{recipe}/``, never changed.

A removal is active unless every record of it is undone: a record that restores documents names the
records that it undoes. So the result depends neither on an order of the files nor on the clocks of
the machines that wrote them, and of a removal and a restoration that do not know of each other the
removal wins. Only these files contain times: the fingerprint of a data set depends on what is
removed, not when.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import UserError
from infra.removals.match import KINDS, Removal, sort_removals
from infra.store.storage import Storage

REMOVALS_FOLDER = "removals"
FORMAT_VERSION = 2
REMOVE, RESTORE = "remove", "restore"


class CorruptRemovalLogError(UserError):
    """A file below ``removals/`` cannot be read: no run starts until it is repaired or deleted."""


class RemovalNotFoundError(UserError):
    """A removal to restore is not active; the message lists the active ones."""


@dataclass(frozen=True)
class ActiveRemoval:
    """An active removal.

    Attributes:
        recorded: when it was recorded, ISO 8601, UTC, by the clock of the machine that did it.
        note: the operator's reason.
        record: the name of the file that records it.
    """

    removal: Removal
    recorded: str
    note: str | None
    record: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**self.removal.to_json(), "recorded": self.recorded, "note": self.note}


def load_active_removals(storage: Storage, recipe: str) -> list[ActiveRemoval]:
    """Return the active removals of a recipe, the narrowest kind first.

    Raises:
        CorruptRemovalLogError: if a file cannot be read. A removal is never silently ignored.
    """
    entries: dict[Removal, ActiveRemoval] = {}
    for entry in _load_all_active(storage, recipe):
        entries.setdefault(entry.removal, entry)
    return [entries[item] for item in sort_removals(entries)]


def _load_all_active(storage: Storage, recipe: str) -> list[ActiveRemoval]:
    """Return every record of every active removal: two machines may have recorded the same one."""
    folder = f"{REMOVALS_FOLDER}/{recipe}"
    recorded: list[ActiveRemoval] = []
    undone: set[tuple[Removal, str]] = set()
    for path in storage.list_files(folder):
        if "/" in path.removeprefix(f"{folder}/"):
            continue  # an exposure record of a model
        entries, undoes = _read(storage, path)
        if undoes is None:
            recorded += entries
        else:
            undone |= {(entry.removal, name) for entry in entries for name in undoes}
    return [entry for entry in recorded if (entry.removal, entry.record) not in undone]


def load_removals(storage: Storage, recipe: str) -> tuple[Removal, ...]:
    """Return the active removals of a recipe, in the order of `sort_removals`."""
    return tuple(entry.removal for entry in load_active_removals(storage, recipe))


def append_removals(
    storage: Storage,
    recipe: str,
    requested: Sequence[Removal],
    note: str | None = None,
    now: datetime | None = None,
) -> tuple[Removal, ...]:
    """Record removals; return those that were not active before."""
    known = set(load_removals(storage, recipe))
    new = tuple(item for item in sort_removals(requested) if item not in known)
    if new:
        _write(storage, recipe, REMOVE, new, note, now)
    return new


def append_restorations(
    storage: Storage,
    recipe: str,
    requested: Sequence[Removal],
    note: str | None = None,
    now: datetime | None = None,
) -> tuple[Removal, ...]:
    """Record that removals no longer apply; return them.

    Raises:
        RemovalNotFoundError: if one of them is not active; nothing is recorded then.
    """
    active = _load_all_active(storage, recipe)
    known = sort_removals(entry.removal for entry in active)
    for item in requested:
        if item not in known:
            listed = "; ".join(map(str, known)) or "nothing"
            raise RemovalNotFoundError(f"{item} is not removed from {recipe!r}; removed: {listed}")
    undoes = {entry.record for entry in active if entry.removal in requested}
    _write(storage, recipe, RESTORE, sort_removals(requested), note, now, sorted(undoes))
    return sort_removals(requested)


def _write(
    storage: Storage,
    recipe: str,
    action: str,
    items: Sequence[Removal],
    note: str | None,
    now: datetime | None,
    undoes: Sequence[str] = (),
) -> None:
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    value: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "action": action,
        "removals": [item.to_json() for item in items],
        "recorded": moment.isoformat(timespec="seconds"),
        "note": note,
    }
    if action == RESTORE:
        value["undoes"] = list(undoes)
    data = json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
    # The name is unique; its time is for a reader of the folder.
    name = f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(8)}.json"
    storage.write(f"{REMOVALS_FOLDER}/{recipe}/{name}", data)


def _read(storage: Storage, path: str) -> tuple[list[ActiveRemoval], list[str] | None]:
    """Read a record: what it removes, or what it restores and the records that it undoes."""
    try:
        value = json.loads(storage.read(path))
        action = value["action"]
        if value["format"] != FORMAT_VERSION or action not in (REMOVE, RESTORE):
            raise ValueError(f"format {value['format']}, action {action}")
        record = path.rsplit("/", 1)[1]
        entries = [
            ActiveRemoval(
                Removal(item["kind"], item["value"]), value["recorded"], value["note"], record
            )
            for item in value["removals"]
        ]
        if not all(entry.removal.kind in KINDS for entry in entries):
            raise ValueError("unknown kind of removal")
        return entries, [str(name) for name in value["undoes"]] if action == RESTORE else None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRemovalLogError(
            f"{storage.url}/{path}: not a record of removals ({error!r})"
        ) from error
