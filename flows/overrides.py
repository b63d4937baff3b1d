"""Set one field of a raw recipe, as ``--set`` and the variants of ``ablate`` do."""

from collections.abc import Mapping, Sequence
from typing import Any


def set_field(value: dict[str, Any], path: str, new: Any) -> None:
    """Set a field of the raw recipe in place; sections that are missing are added.

    Args:
        value: the recipe.
        path: keys with dots between them; an entry of a list is chosen by position or by name, as in
            ``train.tiny.model.num_layers``.
        new: the field's value.

    Raises:
        ValueError: if there is no such place; the message begins with its path.
    """
    keys = path.split(".")
    if not all(keys):
        raise ValueError(f"{path}: keys with dots between them are expected")
    target: Any = value
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            index = _entry_index(target, key)
            if index is None:
                raise ValueError(f"{'.'.join(keys[:depth])} has no entry {key}")
            if last:
                target[index] = new
            else:
                target = target[index]
        elif isinstance(target, dict):
            if last:
                target[key] = new
            else:
                if target.get(key) is None:
                    target[key] = {}
                target = target[key]
        else:
            raise ValueError(  # noqa: TRY004 - a wrong value of a user
                f"{'.'.join(keys[:depth])} has no fields"
            )


def _entry_index(entries: Sequence[Any], key: str) -> int | None:
    if key.isascii() and key.isdecimal() and int(key) < len(entries):
        return int(key)
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping) and entry.get("name") == key:
            return index
    return None
