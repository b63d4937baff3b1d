"""``gristmill bands``: the S-curve of a recipe, of options, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.lsh_curve import lsh_curve, signature_bytes
from tasks.dedup.candidates.lsh_params import candidate_probability
from tasks.dedup.config import DedupConfig
from tasks.dedup.minhash.signatures import signature_table

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


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(lsh_curve, list(arguments))


def value(*arguments: str) -> dict[str, Any]:
    done = ran(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def test_the_defaults_are_finewebs() -> None:
    found = value()
    assert (found["bands"], found["rows"], found["threshold"]) == (14, 8, 0.8)
    assert found["recall"] == pytest.approx(0.9235, abs=1e-4)
    assert [p["similarity"] for p in found["curve"]] == sorted(
        p["similarity"] for p in found["curve"]
    )
    assert all(
        p["candidate_probability"] + p["miss_probability"] == pytest.approx(1)
        for p in found["curve"]
    )


def test_a_recipe_and_what_options_change_of_it(recipe: str) -> None:
    assert value(recipe)["permutations"] == 9 * 13
    assert value(recipe, "--set", "dedup.bands=10")["bands"] == 10
    assert value(recipe, "--rows", "8")["rows"] == 8
    chosen = value(recipe, "--target-recall", "0.95", "--max-permutations", "120")
    assert chosen["permutations"] <= 120
    assert chosen["recall"] == candidate_probability(0.9, chosen["bands"], chosen["rows"]) >= 0.95


def test_the_table_marks_the_threshold() -> None:
    text = ran("--threshold", "0.83").output
    assert "14 bands x 8 rows = 112 hash values, threshold 0.83" in text
    (line,) = [line for line in text.splitlines() if "threshold" in line and "#" in line]
    assert line.split()[0] == "0.83"
    assert max(len(line) for line in text.splitlines()) <= 90


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-permutations", "64"], "give --target-recall"),
        (["--target-recall", "2"], "target_recall: Input should be less than 1"),
        (
            ["--target-recall", "0.999", "--max-permutations", "3"],
            "error: dedup: no bands of at most 3",
        ),
        (["--target-recall", "0.9", "--bands", "4"], "not both"),
        (["nowhere.yaml"], "no such file"),
        (["--set", "dedup.bands=3"], "name one"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str) -> None:
    done = ran(*arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("keep", [False, True])
def test_bytes_are_those_of_the_columns(keep: bool) -> None:
    import numpy as np

    config = DedupConfig.model_validate({"bands": 3, "rows": 5, "keep_signatures": keep})
    made = signature_table(
        ["a", "b"], [b"0" * 16] * 2, np.ones(2, np.int64), np.ones((2, 15), np.uint32), config
    )
    assert signature_bytes(config) * 2 == made.drop_columns(["id"]).nbytes
