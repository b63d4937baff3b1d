"""``gristmill lsh-curve``: the S-curve of a recipe and of options, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.lsh_curve import lsh_curve, signature_bytes
from tasks.dedup.candidates.lsh_params import candidate_probability
from tasks.dedup.config import DedupConfig
from tasks.dedup.signatures import signature_table

RECIPE = """
name: small
sources: [{name: dump, kind: documents, paths: [x.jsonl]}]
dedup: {bands: 9, rows: 13, threshold: 0.9}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(lsh_curve, list(arguments))


def run_json(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.output)
    return value


def test_the_defaults_are_those_of_fineweb() -> None:
    value = run_json()
    assert (value["bands"], value["rows"], value["threshold"]) == (14, 8, 0.8)
    assert value["recall"] == pytest.approx(0.9235, abs=1e-4)
    similarities = [point["similarity"] for point in value["curve"]]
    assert similarities == sorted(similarities)
    for point in value["curve"]:
        total = point["candidate_probability"] + point["miss_probability"]
        assert total == pytest.approx(1)


def test_options_override_a_recipe(recipe: str) -> None:
    assert run_json(recipe)["permutations"] == 9 * 13
    assert run_json(recipe, "--set", "dedup.bands=10")["bands"] == 10
    assert run_json(recipe, "--rows", "8")["rows"] == 8
    chosen = run_json(recipe, "--target-recall", "0.95", "--max-permutations", "120")
    assert chosen["permutations"] <= 120
    assert chosen["recall"] == candidate_probability(0.9, chosen["bands"], chosen["rows"]) >= 0.95


def test_the_table_marks_the_threshold() -> None:
    text = run("--threshold", "0.83").output
    assert "14 bands x 8 rows = 112 hash values, threshold 0.83" in text
    (line,) = [line for line in text.splitlines() if "threshold" in line and "#" in line]
    assert line.split()[0] == "0.83"
    assert max(len(line) for line in text.splitlines()) <= 90


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--max-permutations", "64"], "--target-recall"),
        (["--target-recall", "2"], "target_recall"),
        (["--target-recall", "0.999", "--max-permutations", "3"], "3"),
        (["--target-recall", "0.9", "--bands", "4"], "bands"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["--set", "dedup.bands=3"], "RECIPE"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], word: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    assert word in line


@pytest.mark.parametrize("keep", [False, True])
def test_bytes_per_document_are_those_of_the_columns(keep: bool) -> None:
    config = DedupConfig.model_validate({"bands": 3, "rows": 5, "keep_signatures": keep})
    table = signature_table(
        ["a", "b"], [b"0" * 16] * 2, np.ones(2, np.int64), np.ones((2, 15), np.uint32), config
    )
    assert signature_bytes(config) * 2 == table.drop_columns(["id"]).nbytes
