"""Each pass sees only what the passes before it kept."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.removals.match import Removal
from tests.dedup.corpora import Row, context, documents, prose, row
from tests.select.repeated_text.standalone import run_alone
from tests.select.test_stage import ledger, run

LINE = "One line that every one of these texts has"


def test_a_dropped_duplicate_keeps_no_line(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(1)
    own = f"{LINE}\n" + " ".join(prose(rng, 100))
    old, new = (row("site", own, f"http://x/{year}", date=f"{year}-01-01") for year in (2001, 2020))
    other = row("site", f"{LINE}\n" + " ".join(prose(rng, 100)), "http://x/other")
    for single_pass, name in (
        ({"line_dedup": {"min_documents": 2}}, "first"),
        ({"substring_dedup": {}}, "survivor"),
    ):
        text = other["text"] + " " + own.split("\n")[1] if name == "survivor" else other["text"]
        rows = [old, new, row("site", text, "http://x/other")]
        source = documents(ctx, "site", [rows])
        corpus = run(ctx, [source], prefer=["newest"], **single_pass)
        verdicts = ledger(corpus)
        assert [verdict["reason"] for verdict in verdicts] == ["exact_duplicate", None, None]
        assert json.loads(verdicts[2]["evidence"])["trimmed"][name] == new["id"]
        kept = corpus.table(["text"])["text"].to_pylist()
        assert kept[0] == own
        assert kept[1] in (other["text"], other["text"].split("\n")[1])


def test_a_document_dropped_for_its_lines_keeps_no_run(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(2)
    run_of_words = " ".join(prose(rng, 20))
    rows = [
        row("site", f"{LINE}\n" + " ".join(prose(rng, 80)), "http://x/1"),
        row("site", f"{LINE}\n{run_of_words}", "http://x/2"),
        row("site", " ".join(prose(rng, 80)) + f"\nthen {run_of_words}", "http://x/3"),
    ]
    source = documents(ctx, "site", [rows])
    passes: dict[str, Any] = {
        "line_dedup": {"min_documents": 2},
        "substring_dedup": {"min_run_words": 20},
    }
    corpus = run_alone(ctx, [source], **passes)
    assert [v["reason"] for v in ledger(corpus)] == [None, "repeated_lines", None]
    assert corpus.table(["text"])["text"].to_pylist() == [rows[0]["text"], rows[2]["text"]]
    alone = run_alone(ctx, [source], substring_dedup={"min_run_words": 20})
    assert alone.table(["text"])["text"].to_pylist()[2] == rows[2]["text"].split("\n")[0] + "\nthen"


@pytest.mark.parametrize(
    "single_pass",
    [
        {"line_dedup": {"min_documents": 2, "min_words": 50}},
        {"line_dedup": {"min_documents": 2, "min_words": 50, "keep": "none"}},
        {"substring_dedup": {"min_run_words": 20, "min_words": 50}},
        {"substring_dedup": {"min_run_words": 20, "action": "drop", "max_duplicate_fraction": 0.5}},
    ],
)
def test_the_kept_version_of_a_page_is_kept_by_every_pass(
    tmp_path: Path, single_pass: dict[str, Any]
) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    shared = "\n".join(" ".join(prose(rng, 40)) for _ in range(2))
    rows = [
        row("site", f"{shared}\n{' '.join(prose(rng, 300))}", f"http://x/{k}") for k in range(2)
    ]
    rows += [row("site", shared, "http://x/page", date="2020-01-01")]
    rows += [row("site", " ".join(prose(rng, 100)), "http://x/page", date="2001-01-01")]
    source = documents(ctx, "site", [rows[:3], rows[3:]])
    corpus = run_alone(ctx, [source], prefer=["newest"], dedup_urls=True, **single_pass)
    verdicts = ledger(corpus)
    assert [verdict["reason"] for verdict in verdicts] == [None, None, None, "url_duplicate"]
    assert json.loads(verdicts[3]["evidence"])["survivor"] == rows[2]["id"]
    assert rows[2]["id"] in corpus.table(["id"])["id"].to_pylist()


def test_a_cut_line_covers_no_run_of_others(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(5)
    line = " ".join(prose(rng, 60))

    def page(source: str, k: int) -> Row:
        return row(source, f"{' '.join(prose(rng, 60))}\n{line}", f"http://{source}/{k}")

    sources = {
        name: [page(name, k) for k in range(n)] for name, n in (("a", 2), ("b", 1), ("c", 1))
    }
    corpus = run_alone(
        ctx,
        [documents(ctx, name, [rows]) for name, rows in sources.items()],
        line_dedup={"min_documents": 2, "keep": "none"},
        substring_dedup={},
    )
    own = {r["id"]: r["text"].split("\n")[0] for rows in sources.values() for r in rows}
    (first,) = sources["b"]
    own[first["id"]] = first["text"]
    assert {r["id"]: r["text"] for r in corpus.table(["id", "text"]).to_pylist()} == own
    assert json.loads(ledger(corpus)[3]["evidence"])["trimmed"]["survivor"] == first["id"]


@given(seed=st.integers(0, 10_000), keep=st.sampled_from(["first", "none"]))
@settings(max_examples=12)
def test_a_line_kept_somewhere_is_not_cut_everywhere_as_a_substring(
    seed: int, keep: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    passages = [[f"w{k}x{n}" for n in range(rng.randint(15, 40))] for k in range(8)]
    sources = []
    for name, count in (("a", 5), ("b", 2)):
        rows = []
        for number in range(count):
            text = f"{name}{number}"
            for words in rng.choices(passages, k=4):
                start = rng.choice([0, 0, rng.randrange(len(words))])
                text += rng.choice(["\n", "\n", " "]) + " ".join(words[start:])
            rows.append(row(name, text, f"http://{name}/{number}"))
        sources.append(documents(ctx, name, [rows]))
    passes: dict[str, Any] = {
        "line_dedup": {"min_documents": 2, "keep": keep, "min_words": 1},
        "substring_dedup": {"min_run_words": 10, "min_words": 1},
        "max_source_duplicate_fraction": 1,
    }

    def words_left(**fields: Any) -> set[str]:
        return set(" ".join(run_alone(ctx, sources, **fields).table()["text"].to_pylist()).split())

    left = words_left(**passes)
    del passes["substring_dedup"]
    assert words_left(**passes) == left


def test_passes_are_counted_by_source(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = [row("site", f"{LINE}\n{k}", f"http://x/{k}") for k in range(3)]
    passes: dict[str, Any] = {
        "line_dedup": {"min_documents": 2},
        "substring_dedup": {},
        "dedup_urls": True,
    }
    facts = run_alone(ctx, [documents(ctx, "site", [rows])], **passes).stats["sources"]["site"]
    assert facts == {
        "passed_rules": 3,
        "url_duplicate": 0,
        "exact_duplicate": 0,
        "near_duplicate": 0,
        "repeated_lines": 2,
        "repeated_substring": 0,
        "trimmed_repeated_lines": 0,
        "trimmed_repeated_substring": 0,
    }


def test_removal_then_run_equals_a_run_that_never_had_the_document(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(3)
    shared = " ".join(prose(rng, 20))
    rows = [
        row("site", f"{LINE}\n{' '.join(prose(rng, 60))} {shared} {k}", f"http://x/{k % 4}")
        for k in range(6)
    ]
    passes: dict[str, Any] = {
        "line_dedup": {"min_documents": 2},
        "substring_dedup": {"min_run_words": 20},
        "dedup_urls": True,
    }
    whole = documents(ctx, "site", [rows[:3], rows[3:]])
    for removed in (0, 4):
        removal = Removal("id", rows[removed]["id"])
        corpus = run_alone(ctx, [whole], removals=[removal], **passes)
        left = [r for r in rows if r is not rows[removed]]
        never = run_alone(ctx, [documents(ctx, "site", [left])], **passes)
        assert corpus.table().to_pylist() == never.table().to_pylist()
        verdicts = [verdict for verdict in ledger(corpus) if verdict["reason"] != "removed"]
        assert verdicts == ledger(never)
        assert never.stats["sources"]["site"]["trimmed_repeated_substring"] > 1
        assert len(ledger(corpus)) == len(verdicts) + 1
