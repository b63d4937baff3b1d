"""From the columns of a file to the columns of a task, with checks of each value."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.schemas.examples import SOURCE, Task
from tasks.finetune.data.records import BadValueError, Record, quote

# The columns of a file that a task reads; a recipe says which they are.
COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("text", "label"),
    "tagging": ("words", "tags"),
    "qa": ("question", "context", "answers"),
    "seq2seq": ("source", "target"),
    "chat": ("messages",),
    "completion": ("text",),
    "embedding": ("query", "positive"),
}
OPTIONAL_COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("text_pair",),
    "tagging": ("predicate",),
    "embedding": ("negatives",),
}
ROLES = ("system", "user", "assistant")
_DOCUMENT_ID = re.compile(r"[0-9a-f]{32}")

Example = dict[str, Any]


class ToExample:
    """Turn a record into an example of a task."""

    def __init__(
        self,
        task: Task,
        columns: Mapping[str, str],
        labels: Sequence[str],
        label_separator: str | None,
    ) -> None:
        self._columns = columns
        self._labels = frozenset(labels)
        self._label_separator = label_separator
        self._convert: Callable[[Record], Example] = {
            "classification": self._classification,
            "tagging": self._tagging,
            "qa": self._qa,
            "seq2seq": self._seq2seq,
            "chat": self._chat,
            "completion": self._completion,
            "embedding": self._embedding,
        }[task]

    def __call__(self, record: Record) -> Example:
        """Convert a record.

        Raises:
            BadValueError: if it is no example of the task, with the reason.
        """
        example = self._convert(record)
        example |= {name: self._source(record, name) for name in SOURCE.names}
        _check_encodable(example)
        return example

    def _source(self, record: Record, column: str) -> str | None:
        """Return what a record says of where it is from; a column that the recipe names must be there."""
        if column not in self._columns and column not in record.values:
            return None
        value = self._value(record, column, may_be_null=True)
        if value is not None and not isinstance(value, str):
            name = self._name(column)
            raise BadValueError("bad_value", f"column {name!r} is {type(value).__name__}, not text")
        if value and column == "document_id" and not _DOCUMENT_ID.fullmatch(value):
            message = f"{quote(value)} is no id of a document: 32 hexadecimal digits in lower case"
            raise BadValueError("bad_value", message)
        return value or None

    def _classification(self, record: Record) -> Example:
        example: Example = {"text": self._text(record, "text"), "text_pair": None}
        has_column = "text_pair" in self._columns or "text_pair" in record.values
        if has_column and self._value(record, "text_pair", may_be_null=True) is not None:
            example["text_pair"] = self._text(record, "text_pair")
        value = self._value(record, "label", empty="empty_label")
        if isinstance(value, str) and self._label_separator is not None:
            value = [part.strip() for part in value.split(self._label_separator) if part.strip()]
        is_list = isinstance(value, list)
        labels = [_label_name(item) for item in (value if is_list else [value])]
        # An empty list is an example that has none of the labels; an empty text has no label at all.
        if not is_list and labels == [""]:
            raise BadValueError("empty_label", f"column {self._name('label')!r} is empty")
        if unknown := [name for name in labels if self._labels and name not in self._labels]:
            allowed = ", ".join(sorted(self._labels))
            raise BadValueError("unknown_label", f"{quote(unknown[0])} is none of {allowed}")
        example["labels"] = sorted(set(labels))
        return example

    def _tagging(self, record: Record) -> Example:
        words, tags = (self._strings(record, column) for column in ("words", "tags"))
        if len(words) != len(tags):
            raise BadValueError("bad_tags", f"{len(tags)} tags for {len(words)} words")
        if not words:
            raise BadValueError("empty_text", "no word")
        for index, (word, tag) in enumerate(zip(words, tags, strict=True)):
            if not word.strip():
                raise BadValueError("bad_tags", f"word {index} is empty")
            if not tag or tag in ("B-", "I-"):
                raise BadValueError("bad_tags", f"the tag of word {index} is {tag!r}")
            if self._labels and tag not in self._labels:
                raise BadValueError("unknown_label", f"{quote(tag)} is none of data.labels")
        has_column = "predicate" in self._columns or "predicate" in record.values
        predicate = self._value(record, "predicate", may_be_null=True) if has_column else None
        if predicate is not None and not _is_index(predicate, len(words)):
            message = f"predicate is {predicate!r}, not the index of one of {len(words)} words"
            raise BadValueError("bad_predicate", message)
        return {"words": words, "tags": tags, "predicate": predicate}

    def _qa(self, record: Record) -> Example:
        question, context = (self._text(record, name) for name in ("question", "context"))
        answers = [
            _check_span(context, text, start)
            for text, start in _list_answers(self._value(record, "answers", may_be_null=True))
        ]
        return {"question": question, "context": context, "answers": answers}

    def _seq2seq(self, record: Record) -> Example:
        return {
            "source": self._text(record, "source"),
            "target": self._text(record, "target", empty="empty_target"),
        }

    def _chat(self, record: Record) -> Example:
        messages = self._value(record, "messages")
        if not isinstance(messages, list):
            raise BadValueError("bad_messages", "messages are not a list")
        out: list[dict[str, str]] = []
        for index, message in enumerate(messages):
            role = message.get("role") if isinstance(message, Mapping) else None
            content = message.get("content") if isinstance(message, Mapping) else None
            if role not in ROLES or not isinstance(content, str):
                text = f"message {index} has no content, or a role that is none of {', '.join(ROLES)}"
                raise BadValueError("bad_messages", text)
            if role == "system" and index:
                raise BadValueError("bad_messages", f"message {index} is of system, but not the first")
            out.append({"role": role, "content": content})
        if not any(item["role"] == "assistant" and item["content"].strip() for item in out):
            raise BadValueError("empty_target", "no message of the assistant to learn from")
        return {"messages": out}

    def _completion(self, record: Record) -> Example:
        return {"text": self._text(record, "text")}

    def _embedding(self, record: Record) -> Example:
        negatives: list[str] = []
        if "negatives" in self._columns or "negatives" in record.values:
            value = self._value(record, "negatives", may_be_null=True)
            negatives = [value] if isinstance(value, str) else _check_strings(value or [], "negatives")
            if any(not text.strip() for text in negatives):
                raise BadValueError("empty_text", "one of the negatives is empty; none is an empty list")
        return {
            "query": self._text(record, "query"),
            "positive": self._text(record, "positive", empty="empty_target"),
            "negatives": negatives,
        }

    def _name(self, column: str) -> str:
        return self._columns.get(column, column)

    def _value(
        self, record: Record, column: str, *, may_be_null: bool = False, empty: str = "empty_text"
    ) -> Any:
        name = self._name(column)
        value: Any = record.values
        # A column may have a dot in its own name.
        for key in [name] if name in record.values else name.split("."):
            if not isinstance(value, Mapping) or key not in value:
                have = ", ".join(map(str, record.values))
                raise BadValueError("missing_column", f"no column {name!r} for {column}; it has {have}")
            value = value[key]
        if value is None and not may_be_null:
            raise BadValueError(empty, f"column {name!r} is null")
        return value

    def _text(self, record: Record, column: str, empty: str = "empty_text") -> str:
        value = self._value(record, column, empty=empty)
        if not isinstance(value, str):
            message = f"column {self._name(column)!r} is {type(value).__name__}, not text"
            raise BadValueError("bad_value", message)
        if not value.strip():
            raise BadValueError(empty, f"column {self._name(column)!r} is empty")
        return value

    def _strings(self, record: Record, column: str) -> list[str]:
        return _check_strings(self._value(record, column), self._name(column))


def _check_encodable(value: Any) -> None:
    """Refuse bytes of another encoding, and half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            byte = ord(value[error.start]) - 0xDC00  # as `surrogateescape` decodes it
            what = f"byte 0x{byte:02x}, not UTF-8" if 0x80 <= byte <= 0xFF else "a lone surrogate"
            message = f"character {error.start} is {what}"
            raise BadValueError("bad_encoding", message) from None
        if "\0" in value:  # valid UTF-8, as every other byte of a file in UTF-16 is
            message = f"character {value.index(chr(0))} is NUL; a file in UTF-16 has to be converted to UTF-8"
            raise BadValueError("bad_encoding", message)
    elif isinstance(value, Mapping):
        _check_encodable(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            _check_encodable(item)


def _check_strings(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadValueError("bad_value", f"column {name!r} is not a list of texts")
    return value


def _label_name(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | str):
        return str(value).strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # pandas writes whole numbers so if a column has gaps
    raise BadValueError("bad_value", f"{quote(str(value))} is no label")


def _is_index(value: Any, n: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < n


def _list_answers(value: Any) -> list[tuple[Any, Any]]:
    """List the answers of SQuAD's files (a list of objects) and of its tables (an object of lists)."""
    if value is None or isinstance(value, str):
        return [] if not value else [(value, None)]
    if isinstance(value, Mapping):
        texts = value.get("text")
        starts = value.get("answer_start", value.get("start"))
        starts = [None] * len(texts) if isinstance(texts, list) and starts is None else starts
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise BadValueError("bad_span", "answers have no texts, or not as many starts as texts")
        return list(zip(texts, starts, strict=True))
    if not isinstance(value, list):
        raise BadValueError("bad_value", f"answers are {type(value).__name__}")
    return [
        (item.get("text"), item.get("answer_start", item.get("start")))
        if isinstance(item, Mapping)
        else (item, None)
        for item in value
    ]


def _check_span(context: str, text: Any, start: Any) -> dict[str, Any]:
    """An answer with its offset; without one, its first occurrence."""
    if not isinstance(text, str) or not text.strip():
        raise BadValueError("empty_target", "an answer is empty; no answer is an empty list")
    if start is None:
        start = context.find(text)
        if start < 0:
            raise BadValueError("bad_span", f"{quote(text)} is not in the context")
    if not _is_index(start, len(context)) or not context.startswith(text, start):
        raise BadValueError("bad_span", f"{quote(text)} does not stand at {start!r} of the context")
    return {"text": text, "start": start}
