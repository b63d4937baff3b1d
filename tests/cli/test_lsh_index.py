"""``gristmill lsh-index`` and ``lsh-query``: a planted near-duplicate is found, mistakes are one line."""

import json
import random
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cli.lsh_index import lsh_index
from cli.lsh_query import lsh_query
from infra.runs.run_records import COMPLETED, RunRecord, StageRecord, save_run
from tests.dedup.corpora import Row, context, documents, edited, prose, row
from tests.select.repeated_text.standalone import run_alone

RECIPE = """
name: small
storage: {storage}
sources: [{{name: site, kind: documents, paths: [x.jsonl]}}]
cluster: {{workers: 0}}
dedup: {{bands: 20, rows: 5}}
"""


def invoke(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture
def pages(tmp_path: Path) -> list[Row]:
    """The documents of a run that went as far as select; `tmp_path` holds its recipe."""
    rng = random.Random(1)
    rows = [row("site", " ".join(prose(rng, 120)), f"http://x/{k}") for k in range(6)]
    ctx = context(tmp_path / "store")
    corpus = run_alone(ctx, [documents(ctx, "site", [rows[:4], rows[4:]])])
    stage = StageRecord.from_dataset(corpus, seconds=1.0, cached=False)
    save_run(ctx.storage, RunRecord("small", "1", "2026-01-01", 1.0, COMPLETED, stages=[stage]))
    (tmp_path / "small.yaml").write_text(RECIPE.format(storage=tmp_path / "store"))
    return rows


def test_a_near_duplicate_is_found_in_the_exported_corpus(tmp_path: Path, pages: list[Row]) -> None:
    recipe, index = str(tmp_path / "small.yaml"), str(tmp_path / "corpus.lsh.parquet")
    made = invoke(lsh_index, recipe, "--to", index, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["documents"] == len(pages)
    near = tmp_path / "near.txt"
    near.write_text(" ".join(edited(random.Random(2), pages[3]["text"].split(), 1)))
    value: dict[str, Any] = json.loads(invoke(lsh_query, index, str(near), "--json").stdout)
    (match,) = value["matches"]
    assert (match["id"], match["url"]) == (pages[3]["id"], "http://x/3")
    assert match["near_duplicate"] == (match["similarity"] >= value["threshold"])
    assert "http://x/3" in invoke(lsh_query, index, "--text", near.read_text()).output
    unrelated = " ".join(prose(random.Random(7), 90))
    assert "no match" in invoke(lsh_query, index, "--text", unrelated).output


def test_mistakes_are_refused_in_one_line(tmp_path: Path, pages: list[Row]) -> None:
    recipe, index = tmp_path / "small.yaml", str(tmp_path / "corpus.lsh.parquet")
    assert invoke(lsh_index, str(recipe), "--to", index).exit_code == 0
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(recipe.read_text().replace("small", "unknown"))
    for result in (
        invoke(lsh_index, str(unknown), "--to", index),
        invoke(lsh_query, index),
        invoke(lsh_query, index, "--text", "four words are short"),
        invoke(lsh_query, index, str(binary)),
        invoke(lsh_query, index, str(tmp_path / "missing")),
        invoke(lsh_query, str(binary), "--text", "x"),
        invoke(lsh_query, str(tmp_path / "missing"), "--text", "x"),
    ):
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
