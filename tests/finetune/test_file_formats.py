"""Files of examples in every format."""

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

from infra.schemas.examples import Task
from tasks.finetune.data.conll import bracketed_to_bio
from tasks.finetune.data.read import ReadOptions, read_examples
from tasks.finetune.data.records import DataFileError
from tests.finetune.reading import jsonl, read

CONLL = """-DOCSTART- -X- O O

# text = a comment
EU NNP B-ORG
# SYM O
calls VBZ O

broken line
of three columns

Rome NNP B-LOC
"""
TMX = """<?xml version="1.0"?>
<!DOCTYPE tmx [<!ENTITY secret SYSTEM "file:///etc/hostname">]>
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en-US"><seg>A <bpt i="1">&lt;b&gt;</bpt><hi>cat</hi>.</seg></tuv>
<tuv xml:lang="de"><seg>Eine Katze.</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>No &secret;</seg></tuv></tu>
</body></tmx>"""
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


def test_fields_are_divided_by_what_the_recipe_says() -> None:
    data = 'text;label\n"a; b";x\n'
    rows, _ = read(data, "a.csv", delimiter=";")
    assert (rows[0]["text"], rows[0]["labels"]) == ("a; b", ["x"])
    with pytest.raises(DataFileError, match=r"data\.delimiter"):
        read("text;label\na;x\n", "a.csv")


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


def test_tmx_has_a_column_per_language_and_reads_nothing_else() -> None:
    columns = {"source": "en", "target": "de"}
    rows, rejected = read(TMX, "a.tmx", task="seq2seq", columns=columns)
    assert [(row["source"], row["target"]) for row in rows] == [("A cat.", "Eine Katze.")]
    assert rejected == [(2, "missing_column")]


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


@pytest.mark.parametrize("charset", ["no-such", "idna", "punycode"])
def test_a_catalog_of_an_encoding_that_cannot_be_read_is_an_error_that_names_it(
    charset: str,
) -> None:
    data = PO.replace("UTF-8", charset).encode()
    with pytest.raises(DataFileError, match=r"de\.po: the charset"):
        read(data, "de.po", task="seq2seq")


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


@pytest.mark.parametrize(
    ("name", "task", "data"),
    [
        ("a.conll", "tagging", "EU B-ORG\ncaf\xe9 O\n\nRome B-LOC\n"),
        (
            "a.po",
            "seq2seq",
            '# Jos\xe9\nmsgid "coffee"\nmsgstr "caf\xe9"\n\nmsgid "tea"\nmsgstr "Tee"\n',
        ),
    ],
)
def test_bytes_of_another_encoding_are_rows_of_their_own(name: str, task: Task, data: str) -> None:
    table, rejected = read_examples(
        data.encode("latin-1"), name=name, task=task, options=ReadOptions()
    )
    assert table.num_rows == 1
    assert [item.reason for item in rejected] == ["bad_encoding"]
    assert "0xe9" in rejected[0].message


def test_text_of_utf_16_is_no_text_of_utf_8() -> None:
    sides = [text.encode("utf-16-le") for text in ("one\ntwo\n", "eins\nzwei\n")]
    rows, rejected = read(sides[0], "a.en", task="seq2seq", target=(sides[1], "a.de"))
    assert rows == []
    assert {reason for _, reason in rejected} == {"bad_encoding"}
    _, rejected = read("EU B-ORG\n\n".encode("utf-16"), "a.conll", task="tagging")
    assert {reason for _, reason in rejected} <= {"bad_encoding", "bad_row", "missing_column"}


def test_a_file_that_is_not_packed_any_more_is_read_by_its_format() -> None:
    row = {"text": "x", "label": "a"}
    assert len(read(jsonl(row), "a.jsonl.gz")[0]) == 1


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ([1], "data"),
        ({"data": [{}]}, "article 1"),
        (
            {"data": [{"paragraphs": [{"context": "x", "qas": []}, {"context": "x"}]}]},
            "paragraph 2",
        ),
    ],
)
def test_what_squad_files_lack_is_named(content: Any, where: str) -> None:
    with pytest.raises(DataFileError, match=where):
        read(orjson.dumps(content), "a.json", task="qa")
