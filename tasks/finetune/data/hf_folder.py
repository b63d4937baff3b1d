"""Folders that ``datasets`` writes with ``save_to_disk``: which files of them hold which split."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from infra.schemas.examples import Split
from tasks.finetune.data.records import DataFileError

_STATE, _SPLITS = "state.json", "dataset_dict.json"
# Names of splits on the hub, as the schema calls them.
_SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test",
}  # fmt: skip


def list_hf_files(
    url: str, read: Callable[[str], bytes | None]
) -> list[tuple[str, Split | None]] | None:
    """List the Arrow files of a folder, with the split that it gives them.

    Args:
        url: of the folder, of a ``Dataset`` or a ``DatasetDict``.
        read: returns the bytes of a URL, ``None`` if there is no such file.

    Returns:
        (URL, split) in the folder's order; the split is ``None`` for a single data set. ``None`` if the
        folder is none of ``datasets``.

    Raises:
        DataFileError: if a split has another name than train, validation (valid, dev) or test, or a
            state names no file.
    """
    url = url.rstrip("/")
    content = read(f"{url}/{_SPLITS}")
    if content is None:
        files = _list_state(url, read)
        return None if files is None else [(file, None) for file in files]
    out: list[tuple[str, Split | None]] = []
    for name in _parse(content, f"{url}/{_SPLITS}").get("splits") or []:
        if name not in _SPLIT_NAMES:
            known = ", ".join(_SPLIT_NAMES)
            raise DataFileError(f"{url}: split {name!r} is none of {known}; name its folder alone")
        files = _list_state(f"{url}/{name}", read)
        if files is None:
            raise DataFileError(f"{url}/{name}: {_STATE} is missing; not all of the folder is there")
        out.extend((file, _SPLIT_NAMES[name]) for file in files)
    return out


def _list_state(url: str, read: Callable[[str], bytes | None]) -> Sequence[str] | None:
    content = read(f"{url}/{_STATE}")
    if content is None:
        return None
    state = _parse(content, f"{url}/{_STATE}")
    if state.get("_indices_files"):
        message = f"{url}: rows are selected by an index; save it again with flatten_indices()"
        raise DataFileError(message)
    items = state.get("_data_files") or []
    files = [f"{url}/{item['filename']}" for item in items if isinstance(item, dict) and "filename" in item]
    if not files:
        raise DataFileError(f"{url}: {_STATE} names no data file")
    return files


def _parse(content: bytes, url: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataFileError(f"{url}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataFileError(f"{url}: an object is expected")
    return value
