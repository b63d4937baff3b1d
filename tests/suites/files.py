"""Suites as files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SETTINGS = {"license": "CC0-1.0", "source": "made up"}


def write_suite(
    folder: Path, file: str, rows: Sequence[Mapping[str, Any] | str], **settings: Any
) -> str:
    """Write a suite; a row that is a text is written as it is. Return the path of its YAML file."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / f"{file}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    value = {"name": file, "items": f"{file}.jsonl", **SETTINGS, **settings}
    (folder / f"{file}.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    return str(folder / f"{file}.yaml")
