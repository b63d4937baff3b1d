"""Each level sees only what those before it left."""

import json
import random
from pathlib import Path
from typing import Any

from infra.removals import Removal
from tests.dedup.corpora import context, documents, prose, row
from tests.select.repeats.alone import run_alone
from tests.select.test_stage import ledger, run

LINE = "One line that every one of these texts has"


def test_a_dropped_copy_keeps_no_line_for_others(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(1)
    own = f"{LINE}\n" + " ".join(prose(rng, 100))
    old, new = (row("site", own, f"http://x/{year}", date=f"{year}-01-01") for year in (2001, 2020))
    other = row("site", f"{LINE}\n" + " ".join(prose(rng, 100)), "http://x/other")
    for level, name in (({"lines": {"documents": 2}}, "first"), ({"substrings": {}}, "survivor")):
        text = other["text"] + " " + own.split("\n")[1] if name == "survivor" else other["text"]
        rows = [old, new, row("site", text, "http://x/other")]
        source = documents(ctx, "site", [rows])
        corpus = run(ctx, [source], survivor=["newest"], **level)
        said = ledger(corpus)
        assert [verdict["reason"] for verdict in said] == ["exact_duplicate", None, None]
        assert json.loads(said[2]["evidence"])["trimmed"][name] == new["id"]
        kept = corpus.table(["text"])["text"].to_pylist()
        assert kept[0] == own
        assert kept[1] in (other["text"], other["text"].split("\n")[1])


def test_what_lost_too_many_lines_keeps_no_run_for_others(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(2)
    run_of_words = " ".join(prose(rng, 20))
    rows = [
        row("site", f"{LINE}\n" + " ".join(prose(rng, 80)), "http://x/1"),
        row("site", f"{LINE}\n{run_of_words}", "http://x/2"),
        row("site", " ".join(prose(rng, 80)) + f"\nthen {run_of_words}", "http://x/3"),
    ]
    source = documents(ctx, "site", [rows])
    levels: dict[str, Any] = {"lines": {"documents": 2}, "substrings": {"words": 20}}
    corpus = run_alone(ctx, [source], **levels)
    assert [v["reason"] for v in ledger(corpus)] == [None, "repeated_lines", None]
    assert corpus.table(["text"])["text"].to_pylist() == [rows[0]["text"], rows[2]["text"]]
    alone = run_alone(ctx, [source], substrings={"words": 20})
    assert alone.table(["text"])["text"].to_pylist()[2] == rows[2]["text"].split("\n")[0] + "\nthen"


def test_levels_are_reported_by_source(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = [row("site", f"{LINE}\n{k}", f"http://x/{k}") for k in range(3)]
    levels: dict[str, Any] = {"lines": {"documents": 2}, "substrings": {}, "one_per_url": True}
    facts = run_alone(ctx, [documents(ctx, "site", [rows])], **levels).facts["sources"]["site"]
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
    levels: dict[str, Any] = {
        "lines": {"documents": 2},
        "substrings": {"words": 20},
        "one_per_url": True,
    }
    whole = documents(ctx, "site", [rows[:3], rows[3:]])
    for gone in (0, 4):
        taken = Removal("id", rows[gone]["id"])
        corpus = run_alone(ctx, [whole], removals=[taken], **levels)
        left = [r for r in rows if r is not rows[gone]]
        never = run_alone(ctx, [documents(ctx, "site", [left])], **levels)
        assert corpus.table().to_pylist() == never.table().to_pylist()
        said = [verdict for verdict in ledger(corpus) if verdict["reason"] != "removed"]
        assert said == ledger(never)
        assert never.facts["sources"]["site"]["trimmed_repeated_substring"] > 1
        assert len(ledger(corpus)) == len(said) + 1
