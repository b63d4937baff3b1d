"""Questions on passages, in the JSON of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018)."""

from collections.abc import Iterator
from typing import Any

import orjson

from infra.formats.jsonl import BOM
from tasks.finetune.data.records import DataFileError, Rejection, Record


def read_squad(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read the questions of all paragraphs of all articles.

    Yields:
        Records with ``question``, ``context`` and ``answers``; their number counts questions.

    Raises:
        DataFileError: if the file is not SQuAD's JSON.
    """
    try:
        content = orjson.loads(data.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise DataFileError(f"{name}: not JSON: {error}") from None
    row = 0
    for number, article in enumerate(_list(content, "data", name), 1):
        where = f"{name}: article {number}"
        for index, paragraph in enumerate(_list(article, "paragraphs", where), 1):
            for question in _list(paragraph, "qas", f"{where}, paragraph {index}"):
                row += 1
                yield _read_question(row, paragraph.get("context"), question)


def _list(value: Any, key: str, where: str) -> list[Any]:
    """Return the list that an object has under a key."""
    items = value.get(key) if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise DataFileError(f"{where} has no list {key!r}: not the JSON of SQuAD (data, paragraphs, qas)")
    return items


def _read_question(row: int, context: Any, question: Any) -> Record | Rejection:
    try:
        # Questions without an answer may list plausible ones apart, which are not read.
        answers = [] if question.get("is_impossible") else question["answers"]
        return Record(
            row, {"question": question["question"], "context": context, "answers": answers}
        )
    except (AttributeError, KeyError) as error:
        return Rejection(row, "bad_row", f"question {row} has no {error}")
