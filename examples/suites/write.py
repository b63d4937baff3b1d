"""Write a suite: its YAML file, and its items beside it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml


def write_suite(
    folder: Path, name: str, items: Iterable[Mapping[str, Any]], **settings: Any
) -> int:
    """Write ``NAME.yaml`` and ``NAME.jsonl``; return the number of items."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    (folder / f"{name}.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    value = {"name": name, "items": f"{name}.jsonl", **settings}
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return len(lines)
