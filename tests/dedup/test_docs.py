"""The page "Deduplicate" names every setting, column and fact there is, and the S-curve's values."""

import re
from pathlib import Path
from typing import Any

import datasketch
import numpy as np
import pytest
import xxhash

from tasks.dedup.candidates.lsh_params import candidate_probability
from tasks.dedup.config import DedupConfig
from tasks.dedup.lsh_index import LshIndex, text_minhash
from tasks.dedup.signatures import build_signatures
from tests.dedup.corpora import context, documents
from tests.dedup.stage import corpus, run

PAGE = (Path(__file__).parents[2] / "docs" / "dedup.md").read_text()


def test_every_setting_is_on_the_page() -> None:
    (settings,) = re.findall(r"## Settings\n(.*?)\n## ", PAGE, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", settings)) >= set(DedupConfig.model_fields)


def test_the_curves_are_those_of_the_code() -> None:
    (head,) = re.findall(r"^\| \|((?: [\d.]+ \|)+) bytes", PAGE, re.MULTILINE)
    similarities = [float(value) for value in head.split("|")[:-1]]
    rows = re.findall(r"^\|.*?(\d+) x (\d+).*?\|((?: [\d.]+ \|)+)", PAGE, re.MULTILINE)
    assert len(rows) >= 5
    for bands, width, values in rows:
        shown = [float(value) for value in values.split("|")[:-1]]
        result = [candidate_probability(s, int(bands), int(width)) for s in similarities]
        assert np.allclose(shown[: len(result)], result, atol=0.0051), (bands, width)
        config = DedupConfig.model_validate({"bands": int(bands), "rows": int(width)})
        assert shown[-1] == 24 + 8 * config.bands + (config.num_permutations + 1) // 2


def test_every_column_file_and_fact_is_on_the_page(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    source = documents(ctx, "site", [corpus(7)])
    result = run(ctx, [source], keep_signatures=True)
    keys = build_signatures(
        ctx, DedupConfig.model_validate({"keep_signatures": True}), source
    ).table()
    names = {*result.stats, *result.table().column_names, *keys.column_names}
    names = {name for name in names if not name.startswith("band_")} | {"band_000"}
    names |= {name.replace("00000", "*") for name in result.manifest.files}
    assert names <= set(re.findall(r"`([\w.*-]+)`", PAGE))


def test_kept_signatures_are_what_the_example_on_the_page_makes(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(3)
    config = DedupConfig.model_validate({"keep_signatures": True})
    kept = build_signatures(ctx, config, documents(ctx, "site", [rows])).table()
    (example,) = re.findall(r"```python\n(import datasketch.*?)```", PAGE, re.DOTALL)
    for row, signature in zip(rows, kept["signature"].to_pylist(), strict=True):
        names = {"datasketch": datasketch, "xxhash": xxhash, "text": row["text"]}
        exec(example, names)
        assert names["minhash"].hashvalues.tolist() == signature


def test_the_example_of_an_index_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = corpus(3)[0]["text"]
    config = DedupConfig()
    minhash = text_minhash(text, config)
    LshIndex.from_minhashes({"first": minhash}, config).write("corpus.lsh.parquet")
    (example,) = re.findall(r"```python\n(from tasks.dedup.lsh_index.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"text": text, "config": config, "minhash": minhash}
    exec(example, names)
    assert names["lsh"].query(minhash) == ["first"]
    assert [match.id for match in names["index"].query(text)] == ["first"]
    assert [match.id for match in LshIndex.read("mine.lsh.parquet").query(text)] == ["mine"]
