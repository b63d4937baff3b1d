"""Reading suites: what is wrong is named with its file and line."""

import gzip
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from infra.dataset.ledger import Verdict
from tasks.suites.items import Suite, SuiteError, SuiteItem, load_suite
from tasks.suites.load import load_suites
from tasks.suites.prompts import make_prompts
from tests.suites.files import write_suite

ITEMS: list[dict[str, Any]] = [
    {"id": f"q{n}", "context": f"Question {n}?", "choices": ["one", "two"], "gold": n % 2}
    for n in range(40)
]


def load(folder: Path, rows: Any = ITEMS, **settings: Any) -> Suite:
    return load_suite(
        write_suite(folder, "s", rows, **{"type": "multiple_choice"} | settings),
        "evaluate.suites.0",
    )


def test_items_and_their_answers_are_read(tmp_path: Path) -> None:
    suite = load(tmp_path)
    assert [item.id for item in suite.items] == [f"q{n}" for n in range(40)]
    assert [item.answer for item in suite.items[:2]] == ["one", "two"]
    assert not suite.bad_rows


def test_a_gzipped_file_is_the_same_suite(tmp_path: Path) -> None:
    plain = load(tmp_path)
    data = (tmp_path / "s.jsonl").read_bytes()
    (tmp_path / "s.jsonl").write_bytes(gzip.compress(data))
    assert load_suite(str(tmp_path / "s.yaml"), "x").key == plain.key


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("{", "column"),
        ('["list"]', "array"),
        ({"context": "a", "choices": ["b", "c"]}, "gold"),
        ({"context": "a", "choices": ["b", "c"], "gold": 2}, "choice 2"),
        ({"context": "a", "choices": ["b", "c"], "gold": True}, "gold"),
        ({"context": "a", "choices": ["b"], "gold": 0}, "choices"),
        ({"context": "a", "choices": ["b", ""], "gold": 0}, "choices"),
        ({"context": 3, "choices": ["b", "c"], "gold": 0}, "context"),
        ({"context": "a", "choices": ["b", "c"], "gold": 0, "hint": "b"}, "'hint'"),
        ({"id": "q1", "context": "a", "choices": ["b", "c"], "gold": 0}, "'q1'"),
        ({"context": "a", "choices": ["b", "c"], "gold": 0, "domain": "a b"}, "domain"),
    ],
)
def test_a_bad_row_fails_with_its_line(tmp_path: Path, row: Any, word: str) -> None:
    suite = load(tmp_path, [*ITEMS, row])
    [(name, verdict)] = suite.bad_rows
    assert name == "s:line 41"
    assert isinstance(verdict, Verdict)
    assert verdict.failed
    assert verdict.evidence is not None
    assert (verdict.evidence["file"], verdict.evidence["line"]) == ("s.jsonl", 41)
    assert word in verdict.evidence["message"]
    assert len(suite.items) == 40


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shots": 3}, ["s.yaml", "shots"]),
        ({"type": "quiz"}, ["s.yaml", "type"]),
        ({"name": "a b"}, ["s.yaml", "name"]),
        ({"license": ""}, ["s.yaml", "license"]),
        ({"metrics": ["f1"]}, ["s.yaml", "metrics"]),
        ({"max_new_tokens": 3}, ["s.yaml", "max_new_tokens"]),
        ({"fewshot_items": "x.jsonl"}, ["s.yaml", "num_fewshot"]),
        ({"num_fewshot": 40}, ["s.yaml", "39"]),
        ({"items": "missing.jsonl"}, ["s.yaml", "missing.jsonl"]),
        ({"type": "perplexity"}, ["s.jsonl", "line 1"]),
        ({"type": "perplexity", "num_fewshot": 2}, ["s.yaml", "num_fewshot"]),
    ],
)
def test_a_suite_that_cannot_be_used_is_refused_with_its_file(
    tmp_path: Path, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(SuiteError) as error:
        load(tmp_path, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("evaluate.suites.0: ")
    assert all(word in message for word in words)


def test_the_contexts_of_counterfactual_pairs_are_read(tmp_path: Path) -> None:
    rows = [{"first": f"he {n}", "second": f"she {n}", "continuation": "sat"} for n in range(3)]
    suite = load(tmp_path, rows, type="counterfactual_pairs", delimiter="")
    item = suite.items[1]
    assert (item.context, item.other_context, item.answer) == ("he 1", "she 1", "sat")
    assert list(make_prompts(suite)) == ["he 0", "he 1", "he 2"]
    swapped = [{**row, "second": "nobody"} for row in rows]
    assert load(tmp_path, swapped, type="counterfactual_pairs", delimiter="").key != suite.key
    with pytest.raises(SuiteError, match="num_fewshot"):
        load(tmp_path, rows, type="counterfactual_pairs", num_fewshot=1)


def test_flagged_words_are_read_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# insults\nfool\n\nold goat\n")
    rows = [{"prompt": "You are a"}]
    suite = load(tmp_path, rows, type="flagged_words", flagged_words="words.txt")
    assert suite.config.flagged_words == ("fool", "old goat")
    assert suite.items[0].context == "You are a"
    (tmp_path / "words.txt").write_text("fool\n")
    other = load(tmp_path, rows, type="flagged_words", flagged_words="words.txt")
    assert other.key != suite.key
    (tmp_path / "words.txt").write_text("# none\n")
    for settings in ({"flagged_words": "words.txt"}, {"flagged_words": "missing.txt"}, {}):
        with pytest.raises(SuiteError, match="flagged_words"):
            load(tmp_path, rows, type="flagged_words", **settings)


@pytest.mark.parametrize("text", ["a: [", "- list", "\udcff"])
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SuiteError, match=r"s\.yaml"):
        load_suites([str(tmp_path / "s.yaml")])


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_suite(tmp_path, "s", ITEMS, type="multiple_choice")
    with pytest.raises(SuiteError, match=r"suites\.1"):
        load_suites([path, path])


def test_a_draw_of_items_does_not_depend_on_their_order(tmp_path: Path) -> None:
    drawn = load(tmp_path, max_items=7)
    again = load(tmp_path, ITEMS[::-1], max_items=7)
    assert {item.id for item in drawn.items} == {item.id for item in again.items}
    assert len(drawn.items) == 7


def test_solved_items_depend_on_the_item_alone(tmp_path: Path) -> None:
    suite = load(tmp_path, num_fewshot=3)
    prompts = list(make_prompts(suite))
    few = load(tmp_path, num_fewshot=3, max_items=5)
    by_id = {item.id: text for item, text in zip(suite.items, prompts, strict=True)}
    for item, text in zip(few.items, make_prompts(few), strict=True):
        assert text == by_id[item.id]
    for name, text in by_id.items():
        parts = text.split("\n\n")
        assert len(parts) == 4
        assert parts[-1] == f"Question {name[1:]}?"
        assert not any(part.startswith(parts[-1]) for part in parts[:-1])
        for part in parts[:-1]:
            number = int(part.removeprefix("Question ").partition("?")[0])
            assert part.endswith((" one", " two")[number % 2])
    assert len({text.split("\n\n")[0] for text in prompts}) > 10


def test_no_solved_item_is_of_the_cluster_of_the_item(tmp_path: Path) -> None:
    rows = [{**row, "cluster": "abcd"[n % 4]} for n, row in enumerate(ITEMS)]
    suite = load(tmp_path, rows, num_fewshot=5)
    for item, text in zip(suite.items, make_prompts(suite), strict=True):
        own = int(item.id[1:])
        shown = [int(part[9:].partition("?")[0]) for part in text.split("\n\n")[:-1]]
        assert all(number % 4 != own % 4 for number in shown)


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_a_task_of_lm_eval_says_what_to_install() -> None:
    with pytest.raises(SuiteError, match=r"gristmill\[harness\]"):
        load_suites([{"harness": "arc_easy", "data": "somewhere"}])


def test_the_choices_of_an_item_may_be_its_contexts(tmp_path: Path) -> None:
    suite = load(tmp_path)
    item = SuiteItem(
        "1", None, "1", "", ("was big.",) * 2, 1, prefix="Solved.", contexts=("The crow", "The sea")
    )
    [prompt] = make_prompts(replace(suite, items=[item], shots=()))
    assert prompt == "Solved."
    assert item.to_json() != replace(item, prefix="").to_json()
    assert item.to_json() != replace(item, contexts=("The crow", "The road")).to_json()
