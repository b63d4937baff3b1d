"""The stage `prepare`: every row of every file has a verdict, and splits do not leak."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.removals.match import parse_removal
from tasks.finetune import prepare_task
from tasks.finetune.files import TaskFileError, name_files
from tasks.finetune.prepare import SEVERAL_LABELS, TaskDataError
from tests.finetune.tiny_runs import TinyStore, entry, write_jsonl


def sentences(count: int, label: str = "a") -> list[dict[str, Any]]:
    """Distinct texts without common shingles; every other one has another label."""
    return [
        {
            "text": f"{number * 7919:x} {number * 104729:o}",
            "label": label if number % 2 else "other",
        }
        for number in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> TinyStore:
    return TinyStore(tmp_path)


def test_every_row_has_a_verdict_and_duplicates_are_in_one_split(
    store: TinyStore, tmp_path: Path
) -> None:
    rows = sentences(100)
    extra = [rows[0], rows[1], {"text": "", "label": "a"}, {"text": "no label"}]
    first = write_jsonl(tmp_path / "first.jsonl", rows)
    second = write_jsonl(tmp_path / "second.jsonl", extra)
    item = entry("classification", first, data__files=[str(first), str(second)])
    examples = store.prepare(item)
    counts = examples.counts
    assert counts.n_in == 104
    assert counts.kept == 100
    assert counts.dropped == {"duplicate": 2}
    assert sum(counts.failed.values()) == 2
    table = examples.table()
    assert Counter(table["split"].to_pylist()) == examples.stats["splits"]
    assert set(table["file"].to_pylist()) == {"first.jsonl"}
    verdicts = [row for part in examples.parts for row in part.verdicts().to_pylist()]
    assert {row["url"] for row in verdicts if row["verdict"] == "failed"} == {
        "second.jsonl:3",
        "second.jsonl:4",
    }


def test_near_duplicates_of_test_examples_are_not_trained_on(
    store: TinyStore, tmp_path: Path
) -> None:
    tested = write_jsonl(tmp_path / "test.jsonl", sentences(40))
    # The same shingles, and a few more.
    close = [{**row, "text": f"{row['text']}!"} for row in sentences(10)]
    trained = write_jsonl(
        tmp_path / "train.jsonl", close + [{**r, "text": r["text"][::-1]} for r in sentences(40)]
    )
    item = entry(
        "classification",
        "",
        data={"train": [str(trained)], "test": [str(tested)], "validation_fraction": 0.0},
    )
    examples = store.prepare(item)
    dropped = examples.counts.dropped
    assert dropped.get("near_duplicate_of_test", 0) + dropped.get("duplicate_of_test", 0) == 10
    assert examples.stats["splits"] == {"train": 40, "validation": 0, "test": 40}


def test_several_labels_are_a_failure_unless_the_entry_says_so(
    store: TinyStore, tmp_path: Path
) -> None:
    rows = [*sentences(40), {"text": "both of them", "label": ["a", "other"]}]
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    single = store.prepare(entry("classification", path))
    assert single.counts.failed == {SEVERAL_LABELS: 1}
    several = store.prepare(entry("classification", path, multi_label=True))
    assert several.counts.failed == {}


@pytest.mark.parametrize(
    ("rows", "settings", "field"),
    [
        ([*sentences(40), {"text": "odd one", "label": "rare"}], {}, "finetune.task.data"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], {}, "finetune.task.data"),
        (sentences(40), {"data__columns": {"text": "sentence"}}, "finetune.task.data.files"),
        (sentences(40), {"data__columns": {"sentence": "text"}}, "finetune.task.data.files"),
        ([{"text": f"{n}", "label": "x"} for n in range(30)], {}, "finetune.task.data"),
        ([*sentences(40), *[{"text": "no label"}] * 60], {}, "finetune.task.data"),
        ([*sentences(40), *[{"text": "x", "label": ["a", "b"]}] * 60], {}, "finetune.task.data"),
        (sentences(10), {"data__labels": ["yes", "no"]}, "finetune.task.data"),
    ],
    ids=[
        "a label with one example",
        "an empty split",
        "an unknown column",
        "no such column",
        "one label",
        "most rows are no examples",
        "most rows have several labels",
        "labels that do not occur",
    ],
)
def test_what_cannot_be_learned_is_one_line_with_the_field(
    store: TinyStore,
    tmp_path: Path,
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    field: str,
) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    with pytest.raises(TaskDataError) as error:
        store.prepare(entry("classification", path, **settings))
    assert str(error.value).startswith(f"{field}: ")
    assert "\n" not in str(error.value)


def test_a_file_of_which_most_rows_are_no_examples_is_refused_with_the_first(
    store: TinyStore, tmp_path: Path
) -> None:
    for number, (rows, settings) in enumerate(
        [
            ([*sentences(20), *[{"text": "no label"}] * 60], {}),
            (sentences(9), {"data__labels": ["yes", "no"]}),
            ([*sentences(40), {"text": "odd one", "label": "rare"}], {}),
        ]
    ):
        path = write_jsonl(tmp_path / f"data{number}.jsonl", rows)
        first = [21, 1, 41][number]
        with pytest.raises(TaskDataError, match=rf"data{number}\.jsonl:{first}\b"):
            store.prepare(entry("classification", path, **settings))


def test_a_missing_file_is_named_with_its_field(store: TinyStore, tmp_path: Path) -> None:
    with pytest.raises(TaskFileError) as error:
        store.prepare(entry("classification", tmp_path / "missing.jsonl"))
    assert str(error.value).startswith("finetune.task.data.files.0: ")


def test_a_folder_of_files_is_no_file(store: TinyStore, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", sentences(40))
    with pytest.raises(TaskFileError, match="is a folder") as error:
        store.prepare(entry("classification", folder))
    assert str(error.value).startswith("finetune.task.data.files.0: ")


def test_a_changed_row_keeps_the_split_of_all_others(store: TinyStore, tmp_path: Path) -> None:
    rows = sentences(60)
    before = store.prepare(entry("classification", write_jsonl(tmp_path / "a.jsonl", rows)))
    rows[5] = {"text": "another text", "label": "a"}
    after = store.prepare(entry("classification", write_jsonl(tmp_path / "a.jsonl", rows)))
    assert before.fingerprint != after.fingerprint
    splits = [
        dict(zip(t["id"].to_pylist(), t["split"].to_pylist(), strict=True))
        for t in (before.table(), after.table())
    ]
    common = splits[0].keys() & splits[1].keys()
    assert len(common) == 59
    assert all(splits[0][key] == splits[1][key] for key in common)


def test_folds_are_stratified_and_only_of_training_examples(
    store: TinyStore, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", sentences(100))
    table = store.prepare(entry("classification", path, folds=4)).table().to_pylist()
    assert all((row["fold"] is None) == (row["split"] != "train") for row in table)
    sizes = Counter(
        (row["fold"], json.dumps(row["labels"])) for row in table if row["split"] == "train"
    )
    assert len(sizes) == 8
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_pairs_with_swapped_languages_fail(store: TinyStore, tmp_path: Path) -> None:
    english = "Please read the documentation of the library before you ask, number"
    german = "Bitte lesen Sie die Dokumentation der Bibliothek, bevor Sie fragen, Nummer"
    rows = [
        {"source": f"{english} {i * 7919:x}", "target": f"{german} {i * 7919:x}"} for i in range(60)
    ]
    swapped = [{"source": f"{german} Null", "target": f"{english} zero"}]
    path = write_jsonl(tmp_path / "pairs.jsonl", rows + swapped)
    options = {"languages": ["en", "de"], "data__near_duplicate_threshold": None}
    examples = store.prepare(entry("seq2seq", path, **options))
    assert examples.counts.failed == {"swapped_languages": 1}
    assert examples.counts.kept == 60


def test_a_folder_of_datasets_keeps_its_splits(store: TinyStore, tmp_path: Path) -> None:
    splits = {"train": sentences(60), "test": sentences(200)[100:]}
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "dataset_dict.json").write_text(json.dumps({"splits": [*splits]}))
    for name, rows in splits.items():
        folder = tmp_path / "hub" / name
        folder.mkdir()
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (folder / "state.json").write_text(json.dumps(state))
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table)
    examples = store.prepare(entry("classification", tmp_path / "hub"))
    assert examples.stats["splits"] == {"train": 60, "validation": 0, "test": 100}
    misplaced = {"train": [str(tmp_path / "hub")], "test": [str(tmp_path / "hub" / "test")]}
    with pytest.raises(TaskFileError, match=r"data\.train\.0"):
        store.prepare(entry("classification", "", data=misplaced))


def test_removed_examples_and_those_of_removed_sources_are_left_out(
    store: TinyStore, tmp_path: Path
) -> None:
    rows = sentences(60)
    document = "0123456789abcdef" * 2
    rows[0] |= {"url": "https://a.example.org/page"}
    rows[1] |= {"url": "http://b.org/x", "license": "GPL"}
    rows[2] |= {"document_id": document}
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry("classification", path, data__license="CC0-1.0")
    before = store.prepare(item)
    table = {row["row"]: row for row in before.table().to_pylist()}
    assert table[1]["license"] == "CC0-1.0"
    assert table[2]["license"] == "GPL"
    own = next(row for row in table.values() if row["row"] == 10)["id"]
    removals = [
        parse_removal(kind, value)
        for kind, value in (
            ("domain", "example.org"),
            ("license", "GPL"),
            ("id", document),
            ("id", own),
        )
    ]
    after = store.prepare(item, removals)
    assert after.counts.dropped == {"removed": 4}
    assert {row["row"] for row in after.table().to_pylist()} == set(table) - {1, 2, 3, 10}
    verdicts = after.parts[0].verdicts().to_pylist()
    removed = {
        row["url"]: json.loads(row["evidence"]) for row in verdicts if row["reason"] == "removed"
    }
    assert removed["data.jsonl:3"] == {"kind": "id", "value": document}
    # A removal that no example matches changes no example, and so no model.
    other = store.prepare(item, [parse_removal("domain", "nowhere.org")])
    assert other.fingerprint != before.fingerprint
    assert other.content == before.content


def test_a_file_that_changes_during_the_run_is_refused(store: TinyStore, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", sentences(60))
    item = entry("classification", path)
    spec = prepare_task.spec(store.context, entry=item, corpus=None)
    write_jsonl(path, sentences(61))
    with pytest.raises(TaskFileError):
        prepare_task.build(store.context, spec, entry=item, corpus=None)


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    assert name_files(["/d/a/train.tsv", "/d/b/test.tsv"]) == {
        "/d/a/train.tsv": "train.tsv",
        "/d/b/test.tsv": "test.tsv",
    }
    assert name_files(["s3://x/d/a/f.tsv?key=1", "s3://x/d/b/c/f.tsv"]) == {
        "s3://x/d/a/f.tsv?key=1": "a/f.tsv",
        "s3://x/d/b/c/f.tsv": "b/c/f.tsv",
    }


def test_near_duplicates_are_in_one_fold(store: TinyStore, tmp_path: Path) -> None:
    rows = sentences(80)[1:]  # the first one is too short to resemble another
    close = [{**row, "text": f"{row['text']}!?"} for row in rows]
    path = write_jsonl(tmp_path / "data.jsonl", [*rows, *close])
    item = entry("classification", path, folds=4)
    folds: dict[str, set[int]] = {}
    for row in store.prepare(item).table().to_pylist():
        if row["split"] == "train":
            folds.setdefault(row["text"].removesuffix("!?"), set()).add(row["fold"])
    assert sum(len(own) for own in folds.values()) == len(folds)
    assert len({fold for own in folds.values() for fold in own}) == 4
