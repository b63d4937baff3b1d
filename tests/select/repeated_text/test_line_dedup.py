"""Repeated lines: what is compared, cut and kept, by definition and for any partitioning."""

import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infra.dataset.dataset import Dataset
from tasks.select.pii_mask import extend_to_whitespace
from tasks.select.repeated_text.config import LineDedupConfig
from tasks.select.repeated_text.line_hashes import hash_lines, locate_lines
from tasks.select.repeated_text.word_hashes import count_words
from tests.dedup.corpora import Row, context, documents, row
from tests.select.annotations import annotated, annotation
from tests.select.repeated_text.standalone import run_alone
from tests.select.test_stage import ledger

ALPHABET = "aB \t\n\n\né\u0130\u2028\r漢\u00a0Z.😀"
COMMON = [f"Common line {word} of this site, all rights" for word in "abcdefgh"]
SHORT = ["Home", "About us", "next"]


def lines_config(**fields: Any) -> LineDedupConfig:
    return LineDedupConfig.model_validate(fields)


def folded(text: str) -> str:
    """By definition: simple lower case, white space as one space, none at the ends."""
    return " ".join("".join(char.lower()[0] for char in text).split())


def units(text: str, unit: str) -> list[str]:
    """Every unit of a text that is not blank, folded, in order."""
    result = text.split("\n")
    if unit == "paragraph":
        runs = itertools.groupby(result, key=lambda line: bool(line.strip()))
        result = [" ".join(lines) for full, lines in runs if full]
    return [folded(item) for item in result if item.strip()]


@given(
    st.lists(st.text(ALPHABET, max_size=30), max_size=5),
    st.sampled_from(["line", "paragraph"]),
    st.integers(1, 6),
)
@example(["a\n\nb c\nd\n \n\ne"], "paragraph", 1)
@settings(max_examples=150)
def test_units_are_those_of_the_definition(texts: list[str], unit: str, min_length: int) -> None:
    config = lines_config(unit=unit, min_characters=min_length)
    of_hash: dict[int, str] = {}
    of_unit: dict[str, int] = {}
    column = hash_lines(pa.array(texts, pa.large_string()), config)
    for index, text in enumerate(texts):
        expected = [item for item in units(text, unit) if len(item) >= min_length]
        hashes, starts, ends = locate_lines(text, config)
        for item, value in zip(expected, hashes.tolist(), strict=True):
            assert of_hash.setdefault(value, item) == item
            assert of_unit.setdefault(item, value) == value
        for item, start, end in zip(expected, starts, ends, strict=True):
            assert folded(text[start:end]) == item
            assert start == 0 or text[start - 1] == "\n"
            assert end == len(text) or text[end - 1] == "\n"
        assert column[index].as_py() == sorted(set(hashes.tolist()))


@given(st.text("aé_1\u0301 \n.-漢字カé9", max_size=40))
def test_words_are_counted(text: str) -> None:
    assert count_words(text) == len(re.findall(r"[漢字カ]|[^\W漢字カ\u0301]+|\u0301+", text)) or (
        "\u0301" in text
    )


def test_white_space_at_the_ends_is_cut_with_the_lines_there() -> None:
    assert extend_to_whitespace(" \nab\n\ncd\n ", [(2, 5)]) == [(0, 6)]
    assert extend_to_whitespace("ab\n\ncd\n ", [(4, 7)]) == [(2, 8)]
    assert extend_to_whitespace("ab\ncd\nef", [(3, 6)]) == [(3, 6)]
    assert extend_to_whitespace("ab\n\ncd\n\nef", [(0, 3), (4, 7)]) == [(0, 8)]
    assert extend_to_whitespace("ab\ncd\n\nef", [(3, 6), (7, 9)]) == [(2, 9)]
    assert extend_to_whitespace("ab\n", [(0, 3)]) == [(0, 3)]
    assert extend_to_whitespace("ab", []) == []


def site(rng: random.Random, name: str, count: int) -> list[Row]:
    """Pages that share lines in different spellings, some twice in one page."""
    out = []
    for number in range(count):
        own = [f"own {name} {number} {k} " + "word " * rng.randint(0, 9) for k in range(2)]
        common = rng.choices(COMMON, k=rng.randint(0, 5)) + rng.choices(SHORT, k=2)
        lines = own * (rng.random() < 0.8) + [*common, ""]
        lines = [rng.choice([line, line.upper(), f"  {line}"]) for line in lines]
        rng.shuffle(lines)
        out.append(row(name, "\n".join(lines), f"http://{rng.choice('ab')}.{name}/{number}"))
    return out


def where(config: LineDedupConfig, index: int, r: Row) -> object:
    """The scope in which a document's lines are counted."""
    return {"source": index, "site": r["url"].split("/")[2], "corpus": None}[config.scope]


def expected(
    sources: Sequence[Sequence[Row]], config: LineDedupConfig
) -> dict[str, tuple[str, bool, int]]:
    """By definition: by id the remaining text, whether it is kept, and the number of lines cut."""
    holders: dict[Any, list[str]] = {}
    for index, rows in enumerate(sources):
        for r in rows:
            for line in set(units(r["text"], "line")):
                if len(line) >= config.min_characters:
                    holders.setdefault((where(config, index, r), line), []).append(r["id"])
    out = {}
    for index, rows in enumerate(sources):
        for r in rows:
            lines = r["text"].split("\n")
            have = [holders.get((where(config, index, r), folded(line)), []) for line in lines]
            many = [len(h) >= config.min_documents for h in have]
            first = [bool(h) and h[0] == r["id"] and config.keep == "first" for h in have]
            removed = [m and not f for m, f in zip(many, first, strict=True)]
            keeps = any(m and f for m, f in zip(many, first, strict=True))
            left = [line for line, g in zip(lines, removed, strict=True) if not g]
            text = "\n".join(left)
            if any(removed):
                at = removed.index(True)
                text = text.lstrip() if not "".join(lines[:at]).strip() else text
                at = len(removed) - removed[::-1].index(True)
                text = text.rstrip() if not "".join(lines[at:]).strip() else text
            words = len(re.findall(r"\w+", text))
            out[r["id"]] = (
                text,
                keeps or not any(removed) or words >= config.min_words,
                sum(removed),
            )
    return out


@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 14), max_size=3),
    keep=st.sampled_from(["first", "none"]),
    scope=st.sampled_from(["site", "source", "corpus"]),
)
@settings(max_examples=12, deadline=None)
def test_cuts_are_those_of_the_definition(
    seed: int, cuts: list[int], keep: str, scope: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    one, other = site(rng, "one", 14), site(rng, "other", 5)
    bounds = [0, *sorted(cuts), len(one)]
    sources = [
        documents(ctx, "one", [one[a:b] for a, b in itertools.pairwise(bounds)]),
        documents(ctx, "other", [other]),
    ]
    fields = {"min_documents": 3, "keep": keep, "scope": scope, "min_words": rng.choice([1, 15])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tasks.select.repeated_text.pass_state.PARTITION_MEMORY_BYTES",
            rng.choice([500, 1 << 28]),
        )
        corpus = run_alone(ctx, sources, line_dedup=fields, max_source_duplicate_fraction=1)
    whole = expected([one, other], lines_config(**fields))
    verdicts = {v["id"]: v for v in ledger(corpus)}
    kept = {r["id"]: r["text"] for r in corpus.table(["id", "text"]).to_pylist()}
    assert kept == {i: text for i, (text, keeps, _) in whole.items() if keeps}
    original = {r["id"]: r["text"] for r in [*one, *other]}
    for i, verdict in verdicts.items():
        proof = json.loads(verdict["evidence"] or "{}")
        if i not in kept:
            assert verdict["reason"] == "repeated_lines"
            assert proof["lines"] == whole[i][2]
            assert proof["words"] < fields["min_words"]
            assert keep == "none" or proof["survivor"] in kept
        elif whole[i][2]:
            done = proof["trimmed"]
            assert done["lines"] == whole[i][2]
            assert done["characters"] == len(original[i]) - len(kept[i])
            assert keep == "none" or done["first"] in kept
        else:
            assert not proof


def pages(count: int, extra: str = "") -> list[Row]:
    """Pages that share one line."""
    own = "own words of page {} " * 30
    return [
        row("site", f"{COMMON[0]}\n{own.format(*[n] * 30)}{extra}", f"http://x/{n}")
        for n in range(count)
    ]


def texts(corpus: Dataset) -> list[str]:
    result: list[str] = corpus.table(["text"])["text"].to_pylist()
    return result


def test_it_is_off_by_default_and_needs_enough_documents(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = pages(7)
    source = documents(ctx, "site", [rows])
    assert texts(run_alone(ctx, [source])) == [r["text"] for r in rows]
    assert not ctx.storage.list_files("lines")
    assert texts(run_alone(ctx, [source], line_dedup={"min_documents": 8})) == [
        r["text"] for r in rows
    ]
    cut = texts(run_alone(ctx, [source], line_dedup={}))
    assert cut == [rows[0]["text"], *(r["text"].split("\n")[1] for r in rows[1:])]


def test_documents_that_fail_a_rule_do_not_count(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = pages(4)
    source = documents(ctx, "site", [rows])
    annotations = [
        annotated(
            ctx, source, [[annotation(language="de"), annotation(), annotation(), annotation()]]
        )
    ]
    fields: dict[str, Any] = {"languages": {"en": 0.5}}
    three = run_alone(ctx, [source], annotations, line_dedup={"min_documents": 3}, **fields)
    assert [text.startswith(COMMON[0]) for text in texts(three)] == [True, False, False]
    four = run_alone(ctx, [source], annotations, line_dedup={"min_documents": 4}, **fields)
    assert all(text.startswith(COMMON[0]) for text in texts(four))


def test_paragraphs_are_equal_however_they_are_wrapped(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    body = "own words of this one page " * 20
    wrapped = "Common line\n  a of this site,\nall rights"
    rows = [
        row("site", f"{COMMON[0]}\n\n{body}1", "http://x/1"),
        row("site", f"{body}2\n \n{wrapped}\n\nthe end", "http://x/2"),
    ]
    source = documents(ctx, "site", [rows])
    cut = run_alone(ctx, [source], line_dedup={"unit": "paragraph", "min_documents": 2})
    assert texts(cut)[1] == rows[1]["text"].replace(f"{wrapped}\n\n", "")


def test_masks_and_chapters_are_correct_in_the_remaining_text(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = pages(3)
    text = f"write to a@b.cd\n{COMMON[0]} a@b.cd\nor c@d.ef " + "and more words " * 30
    for r in rows:
        r["text"] += f"\n{COMMON[0]} a@b.cd"
    chapters = [{"title": "one", "start": 0}, {"title": "two", "start": text.index("or c@")}]
    rows.append(row("site", text, "http://x/9", chapters=chapters))
    source = documents(ctx, "site", [rows])
    spans = [
        {"start": m.start(), "end": m.end(), "kind": "email"}
        for m in re.finditer(r"\w@\w\.\w\w", text)
    ]
    assert len(spans) == 3
    annotations = [
        annotated(ctx, source, [[annotation(), annotation(), annotation(), annotation(pii=spans)]])
    ]
    corpus = run_alone(ctx, [source], annotations, line_dedup={"min_documents": 3})
    last = corpus.table().to_pylist()[-1]
    assert last["text"] == "write to <EMAIL>\nor <EMAIL> " + "and more words " * 30
    assert [last["text"][c["start"] :][:4] for c in last["chapters"]] == ["writ", "or <"]
    proof = json.loads(ledger(corpus)[-1]["evidence"])
    assert proof["masked"] == {"email": 2}
    assert proof["trimmed"]["lines"] == 1
    assert proof["trimmed"]["first"] == rows[0]["id"]


def test_a_document_that_keeps_a_line_is_kept_however_short(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = [row("site", COMMON[0], "http://x/0"), *pages(3)]
    rows.append(row("site", f"{COMMON[0]}\nShort", "http://x/9"))
    source = documents(ctx, "site", [rows])
    corpus = run_alone(ctx, [source], line_dedup={"min_documents": 3})
    assert texts(corpus)[0] == COMMON[0]
    assert [v["reason"] for v in ledger(corpus)] == [None] * 4 + ["repeated_lines"]
    facts = corpus.stats["sources"]["site"]
    assert (facts["repeated_lines"], facts["trimmed_repeated_lines"]) == (1, 3)


def test_a_new_part_is_hashed_and_written_alone(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = pages(8)
    alone = [row("site", "nothing in common " * 20, "http://x/n")]
    run_alone(ctx, [documents(ctx, "site", [rows[:7], alone])], line_dedup={})
    stages = ("lines", "select")
    before = {stage: set(ctx.storage.list_files(f"unit_cache/{stage}")) for stage in stages}
    run_alone(ctx, [documents(ctx, "site", [rows[:7], alone, rows[7:]])], line_dedup={})
    for stage in stages:
        assert len(set(ctx.storage.list_files(f"unit_cache/{stage}")) - before[stage]) == 1


@pytest.mark.e2e
def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    rows = site(random.Random(5), "one", 20)
    stores = []
    for workers in (0, 1, 2):
        ctx = context(tmp_path / str(workers), workers)
        with ctx.cluster:
            source = documents(ctx, "one", [rows[:6], rows[6:7], rows[7:]])
            corpus = run_alone(ctx, [source], line_dedup={"min_documents": 3, "min_words": 15})
        assert corpus.counts.dropped["repeated_lines"]
        stores.append({name: ctx.storage.read(name) for name in ctx.storage.list_files()})
    assert {name.split("/")[0] for name in stores[0]} >= {"lines", "select"}
    assert stores[0] == stores[1] == stores[2]


def test_a_text_of_one_long_line_is_hashed() -> None:
    config = lines_config()
    long = "word " * 200_000
    result = hash_lines(pa.array([long, long.upper() + "\n", None]), config).to_pylist()
    assert result[0] == result[1]
    assert len(result[0]) == 1
    assert result[2] == []
    assert locate_lines(long, config)[0].dtype == np.uint64


def test_a_url_without_a_canonical_form_has_a_site(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    line = "A line that every page of both sites has, in its foot"
    far = "/" + "x" * 2100
    urls = [
        f"http://a.org{far}",
        f"http://a.org:80{far}",
        "http://a.org/1",
        "http://me:secret@b.org/1",
        "ftp://b.org/2",
        "book:1",
        None,
    ]
    rows = [row("site", f"{line}\nown {k}", url) for k, url in enumerate(urls)]
    source = documents(ctx, "site", [rows])

    def trimmed(documents: int) -> list[bool]:
        fields = {"scope": "site", "min_documents": documents, "keep": "none", "min_words": 1}
        corpus = run_alone(ctx, [source], line_dedup=fields, max_source_duplicate_fraction=1)
        return [text.startswith("own") for text in corpus.table(["text"])["text"].to_pylist()]

    assert trimmed(3) == [True, True, True, False, False, False, False]
    assert trimmed(2) == [True] * 7
