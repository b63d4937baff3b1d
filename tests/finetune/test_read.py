"""Files of examples in every format, and rows that are none."""

import gettext
import gzip
import io
import json
import struct
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from babel.messages import mofile, pofile
from hypothesis import given
from hypothesis import strategies as st

from infra.schemas.examples import EXAMPLES, SOURCE, TASKS, Task
from tasks.finetune.data.conll import bracketed_to_bio
from tasks.finetune.data.read import ReadOptions, read_examples
from tasks.finetune.data.records import DataFileError


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
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, "empty_target"),
        ("chat", {"messages": [{"role": "human", "content": "x"}]}, "bad_messages"),
        ("chat", {"messages": ["x"]}, "bad_messages"),
        ("chat", {"messages": "x"}, "bad_messages"),
        ("chat", {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, "bad_messages"),
        ("completion", {"text": ""}, "empty_text"),
        ("embedding", {"query": "q", "positive": ""}, "empty_target"),
        ("embedding", {"query": "q", "positive": "p", "negatives": [1]}, "bad_value"),
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


def test_csv_has_quotes_and_tsv_has_none() -> None:
    data = 'text,label\n"a, ""b""\nc",x\nbroken\n,\nd,y\n'
    rows, rejected = read(data, "a.csv")
    assert [(row["text"], row["row"]) for row in rows] == [('a, "b"\nc', 2), ("d", 6)]
    assert rejected == [(4, "bad_row"), (5, "empty_text")]
    rows, _ = read('label\ttext\nx\t"so\n', "a.tsv")
    assert rows[0]["text"] == '"so'


def test_each_line_that_an_open_quote_takes_is_a_row_that_is_lost() -> None:
    table, rejected = read_examples(
        b'text,label\na,x\n"b,x\nc,x\n',
        name="a.csv",
        task="classification",
        options=ReadOptions(),
    )
    assert table.num_rows == 1
    assert [(item.row, item.reason) for item in rejected] == [(3, "bad_row"), (4, "bad_row")]
    assert "3 to 4" in rejected[0].message


def test_a_file_without_a_header_has_numbered_columns() -> None:
    data = "3\t0.5\tcaf\xe9\n".encode("latin-1")
    columns = {"text": "2", "label": "0"}
    rows, _ = read(data, "a.tsv", header=False, encoding="latin-1", columns=columns)
    assert rows[0]["text"] == "café"
    rows, rejected = read(
        b"a\tx\n" + data, "a.tsv", header=False, columns={"text": "1", "label": "0"}
    )
    assert [row["text"] for row in rows] == ["x"]
    assert rejected == [(2, "bad_encoding")]


def test_a_header_of_another_encoding_is_refused() -> None:
    for data in ("caf\xe9,label\nx,a\n".encode("latin-1"), "text,label\nx,a\n".encode("utf-16")):
        with pytest.raises(DataFileError, match="encoding"):
            read(data, "a.csv")
    rows, _ = read("text,label\nx,a\n".encode("utf-16"), "a.csv", encoding="utf-16")
    assert rows[0]["text"] == "x"


def test_tables_name_the_classes_that_their_numbers_stand_for() -> None:
    features = {
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"},
    }
    table = pa.table(
        {"text": ["a", "b", "c"], "label": [1, 0, -1], "words": [["w"]] * 3, "tags": [[1]] * 3}
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pq.write_table(table, out)
    rows, rejected = read(out.getvalue(), "a.parquet")
    assert [row["labels"] for row in rows] == [["pos"], ["neg"]]
    assert rejected == [(3, "empty_label")]
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    rows, _ = read(stream.getvalue(), "data-00000-of-00001.arrow", task="tagging")
    assert rows[0]["tags"] == ["B-X"]


CONLL = """-DOCSTART- -X- O O

# text = a comment
EU NNP B-ORG
# SYM O
calls VBZ O

broken line
of three columns

Rome NNP B-LOC
"""


def test_a_row_of_a_file_of_pairs_may_have_a_single_text() -> None:
    lines = [{"text": "x", "text_pair": pair, "label": "a"} for pair in ("y", None, "")]
    rows, rejected = read(jsonl(*lines))
    assert [row["text_pair"] for row in rows] == ["y", None]
    assert rejected == [(3, "empty_text")]


def test_tags_of_conll_that_are_not_allowed_are_rejected() -> None:
    options = ReadOptions(labels=("O", "B-ORG"))
    _, rejected = read_examples(CONLL.encode(), name="a.conll", task="tagging", options=options)
    assert "unknown_label" in {item.reason for item in rejected}


def test_conll_has_a_sentence_per_block() -> None:
    rows, rejected = read(CONLL, "a.conll", task="tagging")
    assert rows == [
        {"words": ["EU", "#", "calls"], "tags": ["B-ORG", "O", "O"], "predicate": None, "row": 4},
        {"words": ["Rome"], "tags": ["B-LOC"], "predicate": None, "row": 11},
    ]
    assert rejected == [(8, "bad_row")]
    rows, _ = read(CONLL, "a.conll", task="tagging", columns={"tags": "1"})
    assert rows[0]["tags"] == ["NNP", "SYM", "VBZ"]


def test_semantic_roles_are_an_example_per_predicate() -> None:
    lines = [
        "d 0 0 Mary N (S* - - - * * (ARG0*) (ARG1*) -",
        "d 0 1 wants V * want 01 1 * * (V*) * -",
        "d 0 2 to T * - - - * * (ARG1* * -",
        "d 0 3 sleep V *) sleep 01 1 * * *) (V*) -",
    ]
    data = "#begin document (d); part 000\n" + "\n".join(lines) + "\n\n#end document\n"
    rows, rejected = read(data, "a.gold_conll", task="tagging")
    assert [(row["predicate"], row["row"]) for row in rows] == [(1, 3), (3, 5)]
    assert rows[0]["tags"] == ["B-ARG0", "B-V", "B-ARG1", "I-ARG1"]
    assert rows[1]["tags"] == ["B-ARG1", "O", "O", "B-V"]
    assert rejected == []


@pytest.mark.parametrize("cells", [["(A*", "*"], ["*)"], ["(A*", "(B*)", "*)"], ["x*"], ["(A)"]])
def test_brackets_that_do_not_match_are_no_roles(cells: list[str]) -> None:
    assert bracketed_to_bio(cells) is None


def test_squad_has_questions_with_and_without_answers() -> None:
    questions = [
        {"id": "1", "question": "who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"id": "2", "question": "why?", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "no", "answer_start": 0}]},
        {"id": "3", "question": "what?", "answers": [{"text": "pie", "answer_start": 0}]},
        {"id": "4"},
    ]  # fmt: skip
    data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "Ann ate.", "qas": questions}]}]}  # fmt: skip
    rows, rejected = read(orjson.dumps(data), "dev-v2.0.json", task="qa")
    assert [row["answers"] for row in rows] == [[{"text": "Ann", "start": 0}], []]
    assert rejected == [(3, "bad_span"), (4, "bad_row")]


def test_two_files_of_lines_are_parallel() -> None:
    rows, rejected = read(
        "one\n\ntwo\n", "a.en", task="seq2seq", target=(b"eins\nleer\nzwei\n", "a.de")
    )
    assert [(row["source"], row["target"]) for row in rows] == [("one", "eins"), ("two", "zwei")]
    assert rejected == [(2, "empty_text")]
    with pytest.raises(DataFileError):
        read("one\ntwo\n", "a.en", task="seq2seq", target=(b"eins\n", "a.de"))


TMX = """<?xml version="1.0"?>
<!DOCTYPE tmx [<!ENTITY secret SYSTEM "file:///etc/hostname">]>
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en-US"><seg>A <bpt i="1">&lt;b&gt;</bpt><hi>cat</hi>.</seg></tuv>
<tuv xml:lang="de"><seg>Eine Katze.</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>No &secret;</seg></tuv></tu>
</body></tmx>"""


def test_tmx_has_a_column_per_language_and_reads_nothing_else() -> None:
    columns = {"source": "en", "target": "de"}
    rows, rejected = read(TMX, "a.tmx", task="seq2seq", columns=columns)
    assert [(row["source"], row["target"]) for row in rows] == [("A cat.", "Eine Katze.")]
    assert rejected == [(2, "missing_column")]


PO = r"""
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\n"

#: a.py:1
msgctxt "menu"
msgid "Open \"it\""
msgstr ""
"Öffne "
"es\n"

#, fuzzy
msgid "Maybe"
msgstr "Vielleicht"

msgid "Nothing"
msgstr ""

#, python-format
msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

#~ msgid "old"
#~ msgstr "alt"
msgid "Last"
msgstr "Letztes"
"""


def test_catalogs_are_read_as_babel_and_gettext_read_them() -> None:
    table, rejected = read_examples(
        PO.encode(), name="de.po", task="seq2seq", options=ReadOptions()
    )
    pairs = [(row["source"], row["target"]) for row in table.to_pylist()]
    assert pairs == [
        ('Open "it"', "Öffne es\n"),
        ("%d file", "%d Datei"),
        ("%d files", "%d Dateien"),
        ("Last", "Letztes"),
    ]
    assert [(item.reason, item.failed) for item in rejected] == [
        ("fuzzy", False),
        ("untranslated", False),
    ]
    catalog = pofile.read_po(io.BytesIO(PO.encode()), locale="de")
    expected = [m.string for m in catalog if m.id and m.string and not m.fuzzy]
    assert [pairs[0][1], (pairs[1][1], pairs[2][1]), pairs[3][1]] == expected
    compiled = io.BytesIO()
    mofile.write_mo(compiled, catalog)
    rows, _ = read(compiled.getvalue(), "de.mo", task="seq2seq")
    assert sorted((row["source"], row["target"]) for row in rows) == sorted(pairs)
    translations = gettext.GNUTranslations(io.BytesIO(compiled.getvalue()))
    assert translations.ngettext("%d file", "%d files", 2) == pairs[2][1]


def test_a_catalog_cut_anywhere_is_one_error() -> None:
    compiled = io.BytesIO()
    mofile.write_mo(compiled, pofile.read_po(io.BytesIO(PO.encode()), locale="de"))
    data = compiled.getvalue()
    for size in (2, 20, 40, len(data) - 4):
        with pytest.raises(DataFileError):
            read(data[:size], "de.mo", task="seq2seq")
    with pytest.raises(DataFileError):
        read(struct.pack("<7I", 0x950412DE, 0, 1 << 30, 28, 28, 0, 0), "de.mo", task="seq2seq")


def test_packed_files_are_unpacked_and_damage_is_a_row() -> None:
    data = jsonl(*({"text": f"number {i} {i * 7919}", "label": "a"} for i in range(2000)))
    packed = gzip.compress(data)
    rows, rejected = read(packed, "a.jsonl.gz")
    assert (len(rows), rejected) == (2000, [])
    rows, rejected = read(packed[: len(packed) // 2], "a.jsonl.gz")
    assert 0 < len(rows) < 2000
    assert [reason for _, reason in rejected] == ["truncated_file"]


@pytest.mark.parametrize(
    ("data", "name", "options"),
    [
        (b"", "a.jsonl", {}),
        (b"x", "a.docx", {}),
        (b"not json", "a.json", {}),
        (b'{"text": 1}', "a.json", {}),
        (b"PAR1 not", "a.parquet", {}),
        (b"ARROW1 not", "a.arrow", {}),
        (b"", "a.csv", {}),
        (b"text,text\na,b\n", "a.csv", {}),
        (b"sentence,y\na,b\n", "a.csv", {}),
        (b"text,label\na,b\n", "a.csv", {"columns": {"txt": "text"}}),
        (b"EU B-ORG\n", "a.conll", {}),
        (b"{}", "a.jsonl", {"format": "squad"}),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error(
    data: bytes, name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(DataFileError, match=name):
        read(data, name, **options)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "start", "role", "content"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = ["text", "label", "text_pair", "words", "tags", "predicate", "question", "context", "answers",
         "source", "target", "messages", "query", "positive", "negatives"]  # fmt: skip


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
