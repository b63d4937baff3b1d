"""A removal and a run give the same result as a run without the document."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.execute import StepResult
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import document_id
from infra.formats.megatron import SPLITS, TokenShards
from infra.removals.match import Removal, match_table, parse_removal
from tests.e2e.corpora import docstrings, recipe
from tests.inline import go

pytestmark = pytest.mark.e2e

Record = dict[str, str]
LICENSES = ("MIT", "CC0-1.0")
# A segment identifies the raw bytes of its file, which differ without one of its lines.
DIFFERING_COLUMNS = {"segment"}


@st.composite
def corpora(draw: st.DrawFn) -> list[list[Record]]:
    """Generate files of documents with exact and near-duplicates, also in chains of edits."""
    texts = st.builds(edited, st.integers(0, 8), st.integers(0, 5))
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    files: list[list[Record]] = []
    for number, size in enumerate(sizes):
        rows = [
            {
                "text": draw(texts),
                "url": f"http://host{draw(st.integers(0, 2))}.org/{number}/{row}",
                "license": draw(st.sampled_from(LICENSES)),
            }
            for row in range(size)
        ]
        files.append(rows)
    return files


def edited(base: int, edits: int) -> str:
    """Return a docstring with some words replaced, a few more by every edit."""
    words = docstrings()[base].split()
    for index in range(edits * max(1, len(words) // 60)):
        words[7 * index % len(words)] = f"edit{index}"
    return " ".join(words)


def identity(row: Record) -> str:
    return document_id("dump", row["url"], row["text"].encode())


def write(folder: Path, files: list[list[Record]]) -> None:
    folder.mkdir()
    for number, rows in enumerate(files):
        data = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{number}.jsonl").write_text(data)


def run(
    folder: Path, name: str, corpus: Path, removals: tuple[Removal, ...] = ()
) -> list[StepResult]:
    source = {
        "name": "dump",
        "kind": "documents",
        "paths": [f"{corpus}/*.jsonl"],
        "url_column": "url",
        "license_column": "license",
    }
    select = {
        "languages": {},
        "quality_filters": [],
        "pii": "keep",
        "max_source_duplicate_fraction": 1.0,
    }
    value = recipe(folder / name, corpus, sources=[source], select=select)
    return go(value, removals=removals)


def data(results: list[StepResult], step: str) -> Dataset:
    return next(result.dataset for result in results if result.stage == step)


def rows(corpus: Dataset) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = corpus.table().to_pylist()
    return [
        {key: value for key, value in row.items() if key not in DIFFERING_COLUMNS} for row in values
    ]


def ledger(corpus: Dataset) -> list[dict[str, Any]]:
    every = [row for part in corpus.parts for row in part.verdicts().to_pylist()]
    return [row for row in every if row["reason"] != "removed"]


def tokens(shards: Dataset) -> list[tuple[str, list[int]]]:
    splits = [TokenShards(shards, split) for split in SPLITS]
    return [
        (one.ids[number], one.read_document(number).tolist())
        for one in splits
        for number in range(one.num_documents)
    ]


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(files=corpora(), drawn=st.data())
def test_a_removal_gives_the_result_of_a_run_without_the_document(
    files: list[list[Record]], drawn: st.DataObject
) -> None:
    every = [row for file in files for row in file]
    one = st.sampled_from(every)
    removal = st.one_of(
        one.map(lambda row: parse_removal("url", row["url"])),
        one.map(lambda row: parse_removal("id", identity(row))),
        st.sampled_from(range(3)).map(lambda host: parse_removal("domain", f"host{host}.org")),
        st.sampled_from(LICENSES).map(lambda name: parse_removal("license", name)),
    )
    removals = tuple(drawn.draw(st.lists(removal, min_size=1, max_size=3)))
    table = pa.Table.from_pylist([{**row, "id": identity(row)} for row in every])
    removed = {
        row["url"] for row, by in zip(every, match_table(table, removals), strict=True) if by >= 0
    }
    ids = {identity(row) for row in every if row["url"] in removed}
    without = [[row for row in file if row["url"] not in removed] for file in files]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "all", files)
        write(folder / "less", without)
        run(folder, "store", folder / "all")
        after = run(folder, "store", folder / "all", removals)
        never = run(folder, "other", folder / "less")
        labels = [row for row in data(after, "dedup").table().to_pylist() if row["id"] not in ids]
        assert labels == data(never, "dedup").table().to_pylist()
        actual, expected = data(after, "select"), data(never, "select")
        assert actual.counts.dropped.get("removed", 0) == len(removed)
        assert rows(actual) == rows(expected)
        assert ledger(actual) == ledger(expected)
        assert data(after, "tokenize").read("tokenizer.json") == data(never, "tokenize").read(
            "tokenizer.json"
        )
        assert tokens(data(after, "tokenize")) == tokens(data(never, "tokenize"))
