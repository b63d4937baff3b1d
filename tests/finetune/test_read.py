"""Rows of files become examples, or have a reason why not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.schemas.examples import EXAMPLES, SOURCE, TASKS, Task
from tasks.finetune.data.read import ReadOptions, read_examples
from tasks.finetune.data.records import DataFileError
from tests.finetune.reading import jsonl, read

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "start", "role", "content"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = ["text", "label", "text_pair", "words", "tags", "predicate", "question", "context", "answers",
         "source", "target", "messages", "query", "positive", "negatives"]  # fmt: skip


def test_columns_have_the_names_that_the_recipe_gives_them() -> None:
    data = jsonl({"sentence": "good", "y": 1}, {"sentence": "bad", "y": True})
    rows, rejected = read(data, columns={"text": "sentence", "label": "y"})
    assert rows == [
        {"text": "good", "text_pair": None, "labels": ["1"], "row": 1},
        {"text": "bad", "text_pair": None, "labels": ["true"], "row": 2},
    ]
    assert rejected == []


def test_rows_say_what_they_were_made_from() -> None:
    data = jsonl(
        {"text": "x", "label": 1, "url": "https://a.org/", "lic": "MIT"},
        {"text": "y", "label": 1, "url": None, "lic": 7},
    )
    rows, rejected = read(data, columns={"license": "lic"})
    assert [(row["url"], row["license"]) for row in rows] == [("https://a.org/", "MIT")]
    assert rejected == [(2, "bad_value")]
    with pytest.raises(DataFileError):
        read(jsonl({"text": "x", "label": 1}), columns={"license": "lic"})


def test_dots_lead_into_objects() -> None:
    data = jsonl({"translation": {"en": "a cat", "de": "eine Katze"}})
    columns = {"source": "translation.en", "target": "translation.de"}
    rows, _ = read(data, task="seq2seq", columns=columns)
    assert (rows[0]["source"], rows[0]["target"]) == ("a cat", "eine Katze")


@pytest.mark.parametrize(
    ("task", "row", "reason"),
    [
        ("classification", {"text": " ", "label": "a"}, "empty_text"),
        ("classification", {"text": "x", "label": ""}, "empty_label"),
        ("classification", {"text": "x", "label": None}, "empty_label"),
        ("classification", {"text": "x", "label": "c"}, "unknown_label"),
        ("classification", {"text": "x", "label": ["a", "c"]}, "unknown_label"),
        ("classification", {"text": "x", "label": 1.5}, "bad_value"),
        ("classification", {"text": 7, "label": "a"}, "bad_value"),
        ("classification", {"text": "x"}, "missing_column"),
        ("tagging", {"words": ["a", "b"], "tags": ["a"]}, "bad_tags"),
        ("tagging", {"words": ["a"], "tags": ["B-"]}, "bad_tags"),
        ("tagging", {"words": [], "tags": []}, "empty_text"),
        ("tagging", {"words": "a b", "tags": ["a", "b"]}, "bad_value"),
        ("tagging", {"words": ["x"], "tags": ["c"]}, "unknown_label"),
        ("tagging", {"words": ["x"], "tags": ["a"], "predicate": 1}, "bad_predicate"),
        ("qa", {"question": "q", "context": "abc", "answers": [{"text": "c", "answer_start": 1}]}, "bad_span"),
        ("qa", {"question": "q", "context": "abc", "answers": [{"text": "c", "answer_start": -1}]}, "bad_span"),
        ("qa", {"question": "q", "context": "abc", "answers": "d"}, "bad_span"),
        ("qa", {"question": "q", "context": "abc", "answers": [{"text": ""}]}, "empty_target"),
        ("qa", {"question": "q", "context": "abc", "answers": {"text": ["a"], "answer_start": []}}, "bad_span"),
        ("seq2seq", {"source": "x", "target": "\n"}, "empty_target"),
        ("seq2seq", {"source": "", "target": "y"}, "empty_text"),
        ("seq2seq", {"source": "x", "target": None}, "empty_target"),
        ("seq2seq", {"source": "x", "target": "y\0"}, "bad_encoding"),
        ("seq2seq", {"source": "x", "target": "y", "document_id": "12"}, "bad_value"),
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, "empty_target"),
        ("chat", {"messages": [{"role": "human", "content": "x"}]}, "bad_messages"),
        ("chat", {"messages": ["x"]}, "bad_messages"),
        ("chat", {"messages": "x"}, "bad_messages"),
        ("chat", {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, "bad_messages"),
        ("completion", {"text": ""}, "empty_text"),
        ("embedding", {"query": "q", "positive": ""}, "empty_target"),
        ("embedding", {"query": "q", "positive": None}, "empty_target"),
        ("embedding", {"query": "q", "positive": "p", "negatives": [1]}, "bad_value"),
        ("embedding", {"query": "q", "positive": "p", "negatives": ["n", " "]}, "empty_text"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_example_has_a_reason(task: Task, row: Any, reason: str) -> None:
    good = {
        "classification": {"text": "x", "label": "a"},
        "tagging": {"words": ["x"], "tags": ["b"]},
        "qa": {"question": "q", "context": "abc", "answers": []},
        "seq2seq": {"source": "x", "target": "y"},
        "chat": {"messages": [{"role": "assistant", "content": "x"}]},
        "completion": {"text": "x"},
        "embedding": {"query": "q", "positive": "p"},
    }[task]
    rows, rejected = read(jsonl(good, row), task=task, labels=("a", "b"))
    assert [item["row"] for item in rows] == [1]
    assert rejected == [(2, reason)]


def test_lines_that_are_no_objects_have_a_reason() -> None:
    data = b'{"text": "x", "label": "a"}\nnot json\n[1]\n\n{"text": "\xff", "label": "a"}\n{"text": "\\ud800", "label": "a"}\n'
    rows, rejected = read(data)
    assert len(rows) == 1
    assert rejected == [(2, "bad_json"), (3, "bad_row"), (5, "bad_utf8"), (6, "bad_encoding")]


def test_several_labels_are_a_list_or_a_text_with_a_separator() -> None:
    rows, _ = read(jsonl({"text": "x", "label": ["b", "a", "b"]}, {"text": "y", "label": []}))
    assert [row["labels"] for row in rows] == [["a", "b"], []]
    rows, _ = read("text,label\nx,b; a\n", "a.csv", label_separator=";")
    assert rows[0]["labels"] == ["a", "b"]


def test_an_answer_without_an_offset_is_its_first_occurrence() -> None:
    row = {"question": "q", "context": "a cat, a cat", "answers": {"text": ["cat"]}}
    rows, _ = read(jsonl(row), task="qa")
    assert rows[0]["answers"] == [{"text": "cat", "start": 2}]


def test_a_row_of_a_file_of_pairs_may_have_a_single_text() -> None:
    lines = [{"text": "x", "text_pair": pair, "label": "a"} for pair in ("y", None, "")]
    rows, rejected = read(jsonl(*lines))
    assert [row["text_pair"] for row in rows] == ["y", None]
    assert rejected == [(3, "empty_text")]


@given(
    st.sampled_from(TASKS),
    st.lists(st.dictionaries(st.sampled_from(NAMES), JSON_VALUES, max_size=6), min_size=1, max_size=6),
)  # fmt: skip
def test_every_row_is_an_example_or_has_a_reason(task: Task, rows: list[dict[str, Any]]) -> None:
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    try:
        table, rejected = read_examples(data, name="a.jsonl", task=task, options=ReadOptions())
    except DataFileError:
        return  # a column that no row has
    assert table.schema.names == [*EXAMPLES[task].names, *SOURCE.names, "row"]
    assert sorted([*table["row"].to_pylist(), *(item.row for item in rejected)]) == list(
        range(1, len(rows) + 1)
    )


@pytest.mark.parametrize(
    ("task", "column", "row"),
    [
        ("tagging", "predicate", {"words": ["a"], "tags": ["O"]}),
        ("embedding", "negatives", {"query": "a", "positive": "b"}),
        ("classification", "text_pair", {"text": "a", "label": "b"}),
    ],
)
def test_an_optional_column_that_the_recipe_names_must_be_there(
    task: Task, column: str, row: dict[str, Any]
) -> None:
    assert read(jsonl(row), task=task)[1] == []
    with pytest.raises(DataFileError, match="misnamed"):
        read(jsonl(row), task=task, columns={column: "misnamed"})
