"""The index of a corpus: datasketch's signatures, near-duplicates found, bad files refused."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash

from infra.errors import UserError
from infra.minhash.shingles import shingles
from tasks.dedup.config import DedupConfig
from tasks.dedup.lsh_index import (
    LshIndex,
    hash_shingle,
    index_documents,
    text_minhash,
    write_index,
)
from tests.dedup.corpora import Row, edited, prose, row
from tests.dedup.stage import corpus

CONFIG = DedupConfig(bands=20, rows=5)


def plain_minhash(text: str, config: DedupConfig) -> MinHash:
    minhash = MinHash(
        num_perm=config.num_permutations, seed=config.seed, scheme="affine32", hashfunc=hash_shingle
    )
    minhash.update_batch(shingles(text, config.ngram, config.shingle_unit))
    return minhash


def corpus_table(rows: list[Row]) -> pa.Table:
    return pa.table(
        {
            name: pa.array([item[name] for item in rows], pa.string())
            for name in ("id", "url", "source", "language", "text")
        }
    )


def written(tmp_path: Path) -> tuple[LshIndex, list[str]]:
    """An index of a small corpus in two parts, read back; and the texts with a shingle."""
    rows = [{**item, "language": "en"} for item in corpus(3)]
    url = str(tmp_path / "index.parquet")
    parts = [corpus_table(rows[:9]), corpus_table(rows[9:])]
    count = write_index(url, CONFIG, (index_documents(part, CONFIG) for part in parts))
    index = LshIndex.read(url)
    assert count == len(index.signatures)
    return index, [item["text"] for item in rows if shingles(item["text"], CONFIG.ngram)]


def test_signatures_are_those_of_datasketch(tmp_path: Path) -> None:
    index, texts = written(tmp_path)
    assert len(texts) == index.documents.num_rows
    for text, (key, minhash) in zip(texts, index.minhashes(), strict=True):
        expected = plain_minhash(text, CONFIG)
        assert minhash == expected
        assert text_minhash(text, CONFIG) == expected
        assert key in index.documents["id"].to_pylist()


def test_a_near_duplicate_is_found_as_by_datasketch(tmp_path: Path) -> None:
    index, texts = written(tmp_path)
    lsh = index.to_lsh()
    near = " ".join(edited(random.Random(5), texts[4].split(), 1))
    for text in (near, texts[0], " ".join(prose(random.Random(9), 90))):
        matches = index.query(text)
        minhash = plain_minhash(text, CONFIG)
        assert {match.id for match in matches} == set(lsh.query(minhash))
        by_key = dict(index.minhashes())
        for match in matches:
            assert match.similarity == pytest.approx(minhash.jaccard(by_key[match.id]))
    best = index.query(near)[0]
    assert best.id == index.documents["id"][4].as_py()
    assert best.similarity > 0.7


def test_minhashes_of_another_program_become_an_index(tmp_path: Path) -> None:
    index, texts = written(tmp_path)
    made = {str(number): plain_minhash(text, CONFIG) for number, text in enumerate(texts)}
    url = str(tmp_path / "other.parquet")
    LshIndex.from_minhashes(made, CONFIG).write(url)
    other = LshIndex.read(url)
    assert np.array_equal(other.signatures, index.signatures)
    assert other.config.banding == CONFIG.banding
    assert other.documents["id"].to_pylist() == [*made]
    for wrong in (MinHash(num_perm=8), MinHash(num_perm=100, seed=9)):
        with pytest.raises(UserError, match="one"):
            LshIndex.from_minhashes({"one": wrong}, CONFIG)


def test_languages_are_read_with_their_own_shingles(tmp_path: Path) -> None:
    config = DedupConfig.model_validate({"languages": {"th": {"shingle_unit": "characters"}}})
    rows = [{**row("site", "one two three four five six"), "language": tag} for tag in ("th", "en")]
    url = str(tmp_path / "index.parquet")
    write_index(url, config, [index_documents(corpus_table(rows), config)])
    index = LshIndex.read(url)
    assert [match.id for match in index.query(rows[0]["text"], "th")] == [rows[0]["id"]]
    assert [match.id for match in index.query(rows[0]["text"])] == [rows[1]["id"]]


def test_a_file_that_is_no_index_is_refused_in_one_line(tmp_path: Path) -> None:
    text, table = tmp_path / "text.txt", tmp_path / "table.parquet"
    text.write_text("no Parquet")
    pq.write_table(pa.table({"id": ["a"]}), table)
    for path in (text, table, tmp_path / "missing"):
        with pytest.raises(UserError, match=path.name) as refused:
            LshIndex.read(str(path))
        assert "\n" not in str(refused.value)


def test_a_text_without_a_shingle_cannot_be_looked_up(tmp_path: Path) -> None:
    index, _ = written(tmp_path)
    with pytest.raises(UserError, match="5 words"):
        index.query("only four words here")
