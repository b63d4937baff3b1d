"""Read files of examples as the stage does, for tests."""

from typing import Any

import orjson

from infra.schemas.examples import SOURCE, Task
from tasks.finetune.data.read import ReadOptions, read_examples


def read(
    data: bytes | str,
    name: str = "a.jsonl",
    task: Task = "classification",
    target: tuple[bytes, str] | None = None,
    **options: Any,
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    raw = data.encode() if isinstance(data, str) else data
    table, rejected = read_examples(
        raw, name=name, task=task, options=ReadOptions(**options), target=target
    )
    rows = [  # columns of where they are from only where files have them
        {key: value for key, value in row.items() if value is not None or key not in SOURCE.names}
        for row in table.to_pylist()
    ]
    return rows, [(item.row, item.reason) for item in rejected]


def jsonl(*rows: Any) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)
