"""Repeated substrings: what is covered and cut, by definition and for any partitioning."""

import itertools
import json
import operator
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.dataset.dataset import Dataset
from infra.formats.unicode_tables import CJK, WORD, char_tables
from tasks.select.pii_mask import extend_to_whitespace
from tasks.select.repeated_text.config import SubstringDedupConfig
from tasks.select.repeated_text.word_hashes import WordRuns, compute_fingerprints, count_words
from tests.dedup.corpora import Row, context, documents, row
from tests.select.annotations import annotated, annotation
from tests.select.repeated_text.standalone import run_alone
from tests.select.test_stage import ledger

Window = tuple[str, ...]
ALPHABET = "aB_9 \n.-é\u0301\u0130漢カ・ไ😀"


def words_of(text: str) -> list[tuple[str, int, int]]:
    """By definition: every word, folded, with its start and end in characters."""
    classes, _ = char_tables()
    out: list[tuple[str, int, int]] = []
    inside = False
    for index, char in enumerate(text):
        kind = int(classes[ord(char)])
        small = char.lower()[0]
        if not kind & WORD:
            inside = False
        elif kind & CJK or not inside:
            out.append((small, index, index + 1))
            inside = not kind & CJK
        else:
            word, start, _ = out[-1]
            out[-1] = (word + small, start, index + 1)
    return out


def windows(text: str, size: int) -> list[Window]:
    """Every run of so many words."""
    result = [word for word, _, _ in words_of(text)]
    return [tuple(result[i : i + size]) for i in range(len(result) - size + 1)]


@given(st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=4))
@settings(max_examples=200)
def test_words_and_runs_are_those_of_the_definition(texts: list[str]) -> None:
    of_hash: dict[int, Window] = {}
    of_window: dict[Window, int] = {}
    for text in texts:
        result = WordRuns(np.frombuffer(text.encode(), np.uint8), 3)
        expected = words_of(text)
        assert [(int(a), int(b)) for a, b in zip(result.starts, result.ends, strict=True)] == [
            (start, end) for _, start, end in expected
        ]
        assert count_words(text) == len(expected)
        for value, window in zip(result.hashes.tolist(), windows(text, 3), strict=True):
            assert of_hash.setdefault(value, window) == window
            assert of_window.setdefault(window, value) == value


def passage(rng: random.Random, words: int, vocabulary: int = 5000) -> list[str]:
    return [f"w{rng.randrange(vocabulary)}" for _ in range(words)]


@given(seed=st.integers(0, 10_000), size=st.integers(10, 60))
@settings(max_examples=60)
def test_texts_that_share_a_run_share_a_fingerprint_in_it(seed: int, size: int) -> None:
    rng = random.Random(seed)
    vocabulary = rng.choice([2, 5000])
    run = passage(rng, size, vocabulary)
    texts = [
        " ".join(passage(rng, rng.randint(0, 80)) + run + passage(rng, rng.randint(0, 80)))
        for _ in range(2)
    ]
    one, other = (set(row) for row in compute_fingerprints(pa.array(texts), size).to_pylist())
    assert one & other
    shared = np.array(sorted(one & other), np.uint64)
    (run_length,) = WordRuns(np.frombuffer(" ".join(run).encode(), np.uint8), size).hashes.tolist()
    for text in texts:
        near = WordRuns(np.frombuffer(text.encode(), np.uint8), size).runs_containing(shared)
        assert run_length in near.tolist()
        assert len(near) <= len(set(windows(text, size)))


def test_few_fingerprints_are_kept() -> None:
    text = " ".join(passage(random.Random(1), 100_000))
    (result,) = compute_fingerprints(pa.array([text]), 50).to_pylist()
    assert len(result) == pytest.approx(2 / 27 * 100_000, rel=0.05)


def corpus_of(rng: random.Random, name: str, count: int, shared: Sequence[list[str]]) -> list[Row]:
    """Texts that share passages, whole and in part, in other spellings and on other lines."""
    out = []
    for number in range(count):
        pieces = []
        for _ in range(rng.randint(1, 4)):
            source = rng.choice(shared)
            start = rng.choice([0, 0, rng.randrange(len(source))])
            end = rng.choice([len(source), rng.randint(start, len(source))])
            pieces.append(source[start:end])
            pieces.append([f"{name}{number}x{k}" for k in range(rng.choice([0, 1, 9, 30]))])
        rng.shuffle(pieces)
        result = [rng.choice([word, word, word.upper()]) for piece in pieces for word in piece]
        gaps = [rng.choice([" ", " ", ", ", "\n", " -\n\n"]) for _ in result]
        text = "".join(itertools.chain.from_iterable(zip(result, gaps, strict=True)))
        out.append(row(name, text, f"http://{name}/{number}"))
    return out


def expected(rows: Sequence[Row], config: SubstringDedupConfig) -> dict[str, str]:
    """By definition: the remaining texts of the kept documents, by id."""
    first: dict[Window, int] = {}
    for number, r in enumerate(rows):
        for window in windows(r["text"], config.min_run_words):
            first.setdefault(window, number)
    covered: list[list[bool]] = []
    lean: list[set[int]] = []
    for number, r in enumerate(rows):
        flags = [False] * len(words_of(r["text"]))
        owners = set()
        for index, window in enumerate(windows(r["text"], config.min_run_words)):
            if first[window] < number:
                flags[index : index + config.min_run_words] = [True] * config.min_run_words
                owners.add(first[window])
        covered.append(flags)
        lean.append(owners)
    out = {}
    fractions = [sum(flags) / len(flags) if flags else 0 for flags in covered]
    if config.action == "drop":
        over = {
            n
            for n, fraction in enumerate(fractions)
            if fraction > config.max_duplicate_fraction and lean[n]
        }
        keeps = set().union(*(lean[n] for n in over))
        return {r["id"]: r["text"] for n, r in enumerate(rows) if n not in over or n in keeps}
    keeps = set().union(*lean)
    for number, r in enumerate(rows):
        text = r["text"]
        indices = [(s, e) for _, s, e in words_of(text)]
        cuts: list[tuple[int, int]] = []
        flagged = zip(covered[number], range(len(indices)), strict=True)
        for flag, group in itertools.groupby(flagged, key=operator.itemgetter(0)):
            run = [k for _, k in group]
            if flag:
                start, end = indices[run[0]][0], indices[run[-1]][1]
                if start == 0 or text[start - 1].isspace():
                    end += len(text[end:]) - len(text[end:].lstrip())
                cuts.append((start, end))
        removed = {k for start, end in extend_to_whitespace(text, cuts) for k in range(start, end)}
        left = "".join(char for k, char in enumerate(text) if k not in removed)
        if not cuts or number in keeps or len(words_of(left)) >= config.min_words:
            out[r["id"]] = left
    return out


@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 9), max_size=3),
    action=st.sampled_from(["trim", "drop"]),
)
@settings(max_examples=16)
def test_cuts_are_those_of_the_definition(
    seed: int, cuts: list[int], action: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    shared = [passage(rng, rng.randint(8, 60), rng.choice([2, 5000])) for _ in range(4)]
    one, other = corpus_of(rng, "one", 9, shared), corpus_of(rng, "other", 4, shared)
    bounds = [0, *sorted(cuts), len(one)]
    sources = [
        documents(ctx, "one", [one[a:b] for a, b in itertools.pairwise(bounds)]),
        documents(ctx, "other", [other]),
    ]
    size = rng.randint(10, 25)
    fields: dict[str, Any] = {"min_run_words": size, "action": action}
    fields |= {"min_words": rng.choice([1, 20])} if action == "trim" else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tasks.select.repeated_text.pass_state.PARTITION_MEMORY_BYTES",
            rng.choice([2000, 1 << 28]),
        )
        corpus = run_alone(ctx, sources, substring_dedup=fields, max_source_duplicate_fraction=1)
    kept = {r["id"]: r["text"] for r in corpus.table(["id", "text"]).to_pylist()}
    assert kept == expected([*one, *other], SubstringDedupConfig.model_validate(fields))
    original = {r["id"]: r["text"] for r in [*one, *other]}
    for verdict in ledger(corpus):
        proof = json.loads(verdict["evidence"] or "{}")
        text = original[verdict["id"]]
        if verdict["id"] in kept and kept[verdict["id"]] != text:
            proof = proof["trimmed"]
            assert proof["characters"] == len(text) - len(kept[verdict["id"]])
            assert proof["substrings"] > 0
        elif verdict["id"] not in kept:
            assert verdict["reason"] == "repeated_substring"
        else:
            assert not proof
            continue
        assert proof["survivor"] in kept
        start, end = proof["span"]
        span = windows(text[start:end], size)
        assert set(span) & set(windows(original[proof["survivor"]], size))


def license_corpus(tmp_path: Path, **fields: Any) -> Dataset:
    """Three books that start with the same license of 60 words; a rule drops the first one."""
    ctx = context(tmp_path)
    rng = random.Random(2)
    head = " ".join(passage(rng, 60))
    rows = [
        row("books", f"{head}\n\n" + " ".join(passage(rng, 200)), f"book:{k}") for k in range(3)
    ]
    source = documents(ctx, "books", [rows[:1], rows[1:]])
    annotations = [
        annotated(ctx, source, [[annotation(language="de")], [annotation(), annotation()]])
    ]
    return run_alone(ctx, [source], annotations, languages={"en": 0.5}, **fields)


def test_it_is_off_by_default_and_compares_kept_documents(tmp_path: Path) -> None:
    whole = license_corpus(tmp_path).table(["text"])["text"].to_pylist()
    cut = license_corpus(tmp_path, substring_dedup={}).table(["text"])["text"].to_pylist()
    assert cut == [whole[0], whole[1].split("\n\n")[1]]
    longer = license_corpus(tmp_path, substring_dedup={"min_run_words": 61})
    assert longer.table(["text"])["text"].to_pylist() == whole
    dropped = license_corpus(
        tmp_path, substring_dedup={"action": "drop", "max_duplicate_fraction": 0.2}
    )
    assert dropped.table(["text"])["text"].to_pylist() == whole[:1]
    assert dropped.counts.dropped == {"language": 1, "repeated_substring": 1}
    proof = json.loads(ledger(dropped)[2]["evidence"])
    assert proof["fraction"] == pytest.approx(60 / 260, abs=1e-4)
    assert proof["survivor"] == ledger(dropped)[1]["id"]


def test_a_setting_of_the_other_action_is_an_error() -> None:
    with pytest.raises(ValidationError, match="max_duplicate_fraction belongs to action drop"):
        SubstringDedupConfig.model_validate({"max_duplicate_fraction": 0.2})
    with pytest.raises(ValidationError, match="min_words belongs to action trim"):
        SubstringDedupConfig.model_validate({"action": "drop", "min_words": 1})


def test_lines_and_substrings_are_cut_together(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(3)
    line, run = "The same line in every one of these texts", " ".join(passage(rng, 20))
    rows = []
    for k in range(3):
        own = " ".join(passage(rng, 60))
        text = f"{line}\n{own} u{k}@d.ef\n{run} a@b.cd tail{k}"
        chapters = [{"title": "x", "start": 0}, {"title": "y", "start": text.index("tail")}]
        rows.append(row("site", text, f"http://x/{k}", chapters=chapters))
    source = documents(ctx, "site", [rows])
    spans = [
        [
            {"start": at, "end": at + len(address), "kind": "email"}
            for address in (f"u{k}@d.ef", "a@b.cd")
            for at in [r["text"].index(address)]
        ]
        for k, r in enumerate(rows)
    ]
    annotations = [annotated(ctx, source, [[annotation(pii=s) for s in spans]])]
    fields: dict[str, Any] = {
        "line_dedup": {"min_documents": 3, "min_words": 1},
        "substring_dedup": {"min_run_words": 12},
    }
    corpus = run_alone(ctx, [source], annotations, **fields)
    for k, result in enumerate(corpus.table().to_pylist()):
        own = rows[k]["text"].split("\n")[1].removesuffix(f" u{k}@d.ef")
        # The run starts inside an e-mail address, which is masked as a whole; it contains the other one.
        left = f"{own} <EMAIL> tail{k}"
        assert result["text"] == (left if k else f"{line}\n{own} <EMAIL>\n{run} <EMAIL> tail{k}")
        assert result["text"][result["chapters"][1]["start"] :] == f"tail{k}"
    whole = json.loads(ledger(corpus)[2]["evidence"])
    assert whole["masked"] == {"email": 1}
    proof = whole["trimmed"]
    assert (proof["lines"], proof["substrings"]) == (1, 1)
    assert proof["first"] == proof["survivor"] == rows[0]["id"]


def test_a_new_part_is_hashed_and_written_alone(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    head = " ".join(passage(rng, 60))
    rows = [
        row("site", f"{head} " + " ".join(passage(rng, 100)), f"http://x/{k}") for k in range(3)
    ]
    alone = [row("site", "nothing in common " * 30, "http://x/n")]
    run_alone(ctx, [documents(ctx, "site", [rows[:2], alone])], substring_dedup={})
    stages = ("fingerprints", "select")
    before = {stage: set(ctx.storage.list_files(f"unit_cache/{stage}")) for stage in stages}
    run_alone(ctx, [documents(ctx, "site", [rows[:2], alone, rows[2:]])], substring_dedup={})
    for stage in stages:
        assert len(set(ctx.storage.list_files(f"unit_cache/{stage}")) - before[stage]) == 1


@pytest.mark.e2e
def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    rng = random.Random(6)
    rows = corpus_of(rng, "one", 12, [passage(rng, 40) for _ in range(3)])
    stores = []
    for workers in (0, 1, 2):
        ctx = context(tmp_path / str(workers), workers)
        with ctx.cluster:
            source = documents(ctx, "one", [rows[:4], rows[4:5], rows[5:]])
            corpus = run_alone(
                ctx,
                [source],
                substring_dedup={"min_run_words": 12},
                max_source_duplicate_fraction=1,
            )
        assert corpus.stats["sources"]["one"]["trimmed_repeated_substring"]
        stores.append({name: ctx.storage.read(name) for name in ctx.storage.list_files()})
    assert {name.split("/")[0] for name in stores[0]} >= {"fingerprints", "select"}
    assert stores[0] == stores[1] == stores[2]
