"""Suites as files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tasks.suites.harness import load_harness_suite
from tasks.suites.items import Suite

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


def load_harness(task: str, folder: Path, **values: Any) -> Suite:
    """Read a task or group of lm-evaluation-harness with the data of a folder, without solved items by default."""
    entry = {"harness": task, "data": str(folder), "num_fewshot": 0, **values}
    return load_harness_suite(entry, "evaluate.suites.0")


def write_split(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a split as JSONL."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
