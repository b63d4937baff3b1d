"""The log of removals: one file per command below ``removals/{recipe}/``, never changed.

The active removals result from all files, read in the order of their names, which is that of time.
Only these files contain times: the fingerprint of a data set depends on what is removed, not when.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import UserError
from infra.removals.match import KINDS, Removal, sort_removals
from infra.runs.run_records import new_run_id
from infra.store.storage import Storage

REMOVALS_FOLDER = "removals"
FORMAT_VERSION = 1
REMOVE, RESTORE = "remove", "restore"


class CorruptRemovalLogError(UserError):
    """A file below ``removals/`` cannot be read: no run starts until it is repaired or deleted."""


class RemovalNotFoundError(UserError):
    """A removal to restore is not active; the message lists the active ones."""


@dataclass(frozen=True)
class ActiveRemoval:
    """An active removal.

    Attributes:
        removal: the removal.
        recorded: when it was recorded, ISO 8601, UTC.
        note: the operator's reason.
    """

    removal: Removal
    recorded: str
    note: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**self.removal.to_json(), "recorded": self.recorded, "note": self.note}


def load_active_removals(storage: Storage, recipe: str) -> list[ActiveRemoval]:
    """Return the active removals of a recipe, the narrowest kind first.

    Raises:
        CorruptRemovalLogError: if a file cannot be read. A removal is never silently ignored.
    """
    entries: dict[Removal, ActiveRemoval] = {}
    folder = f"{REMOVALS_FOLDER}/{recipe}"
    for path in storage.list_files(folder):
        if "/" in path.removeprefix(f"{folder}/"):
            continue  # an exposure record of a model
        action, recorded = _read(storage, path)
        for entry in recorded:
            if action == RESTORE:
                entries.pop(entry.removal, None)
            else:
                entries.setdefault(entry.removal, entry)
    return [entries[item] for item in sort_removals(entries)]


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
    known = load_removals(storage, recipe)
    for item in requested:
        if item not in known:
            listed = "; ".join(map(str, known)) or "nothing"
            raise RemovalNotFoundError(f"{item} is not removed from {recipe!r}; removed: {listed}")
    _write(storage, recipe, RESTORE, sort_removals(requested), note, now)
    return sort_removals(requested)


def _write(
    storage: Storage,
    recipe: str,
    action: str,
    items: Sequence[Removal],
    note: str | None,
    now: datetime | None,
) -> None:
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    value = {
        "format": FORMAT_VERSION,
        "action": action,
        "removals": [item.to_json() for item in items],
        "recorded": moment.isoformat(timespec="seconds"),
        "note": note,
    }
    data = json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
    while not storage.put_if_absent(f"{REMOVALS_FOLDER}/{recipe}/{new_run_id(moment)}.json", data):
        pass  # another command has the same random name


def _read(storage: Storage, path: str) -> tuple[str, list[ActiveRemoval]]:
    try:
        value = json.loads(storage.read(path))
        action = value["action"]
        if value["format"] != FORMAT_VERSION or action not in (REMOVE, RESTORE):
            raise ValueError(f"format {value['format']}, action {action}")
        entries = [
            ActiveRemoval(Removal(item["kind"], item["value"]), value["recorded"], value["note"])
            for item in value["removals"]
        ]
        if not all(entry.removal.kind in KINDS for entry in entries):
            raise ValueError("unknown kind of removal")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRemovalLogError(
            f"{storage.url}/{path}: not a record of removals ({error!r})"
        ) from error
    return action, entries
