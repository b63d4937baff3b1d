import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.schemas.quality_rules import RULES
from infra.schemas.signals import SIGNALS
from tasks.annotate.signals import text_block
from tasks.annotate.signals.families import compute_signals
from tests.annotate import reference

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["cases"]

# Few characters, so that words, lines and n-grams repeat; every character that a rule knows.
DENSE = st.text(
    alphabet="aabB.. \n\n\r…-–#•{[]13'\"!?é_/,=+@:中あ。\u2028\u3000\x85\xad\u200c", max_size=120
)
WORDS = st.lists(
    st.sampled_from(
        [
            *("the", "of", "and", "a", "Lorem ipsum", "JavaScript", "use cookies", "Terms of Use"),
            *("[3]", "[edit]", "[citation needed]", "e.g.", "J. S.", "3.14", "...", "…", "don't"),
            *("end.", "Why?", "\n", "\n\n", "\n\n\n", "\r\n", "- item", "• item", "{", "foo(bar)"),
            *(
                "x" * 31,
                "x" * 1001,
                "中文",
                "日本語。",
                "well-known",
                "--verbose",
                "os.path",
                "C++",
            ),
        ]
    ),
    max_size=60,
).map(" ".join)


def measured(*texts: str | None) -> list[dict[str, Any]]:
    signals = compute_signals(pa.array(texts, pa.large_string()))
    return [{name: signals[name][i].item() for name in signals} for i in range(len(texts))]


@given(st.one_of(DENSE, WORDS, st.text()))
@example("")
@example("\n")
@example(" \n ")
@example("\x00a\x00")
@example("a-b -c d- -- a--b --- a- -b")
@example("a/b a/3 3/3 a:b a=b a=3 Ab.Cd ab.cd ab.Cd a,b 1,2 a…b a...b a()b a().b")
@example("0\U0002ebe10 a・b ・ 中・文")
@example("\r\n\r\n")
@example("x\n\ny\n\nx\n\n\n\nx")
def test_every_signal_equals_its_definition(text: str) -> None:
    (signals,) = measured(text)
    assert signals == pytest.approx(reference.measure(text), rel=1e-12, abs=0)


@given(st.lists(st.one_of(st.none(), DENSE, WORDS), max_size=6))
def test_a_row_depends_on_its_own_text_alone(texts: list[str | None]) -> None:
    assert measured(*texts) == [measured(text)[0] for text in texts]


def test_a_null_counts_as_empty() -> None:
    assert measured(None) == measured("")


def test_chunked_sliced_and_32_bit_columns_give_the_same() -> None:
    texts = ["one two. three\n" * 3, "", "Zwei Wörter. " * 40, None, "中文 " * 9]
    small = pa.array(texts, pa.string())
    chunked = pa.chunked_array([small.slice(0, 2), small.slice(2)])
    expected = compute_signals(pa.array(texts, pa.large_string()))
    for name, values in compute_signals(chunked).items():
        assert np.array_equal(values, expected[name])
    for name, values in compute_signals(small.slice(1, 3)).items():
        assert np.array_equal(values, expected[name][1:4])


@pytest.mark.parametrize("block_bytes", [1, 40, 1000])
def test_the_size_of_blocks_changes_nothing(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["one two. three\n" * 3, "", "Zwei Wörter. " * 40, None, "中文 " * 9, "", ""]
    expected = measured(*texts)
    monkeypatch.setattr(text_block, "BLOCK_BYTES", block_bytes)
    assert measured(*texts) == expected


def test_no_rows() -> None:
    signals = compute_signals(pa.array([], pa.large_string()))
    assert all(len(values) == 0 for values in signals.values())


def test_a_long_text_with_short_tokens_outgrows_the_first_buffers() -> None:
    text = " ".join(f"w{i % 7000}" for i in range(40_000)) + "\n" * 5000
    (signals,) = measured(text)
    assert signals["words"] == 40_000
    assert signals["gopher_repetition_dup_10gram_char_fraction"] > 0.6
    assert signals["fineweb_newline_word_ratio"] == pytest.approx(5000 / 40_000)


def test_every_signal_of_the_table_is_written_in_its_order_and_type() -> None:
    signals = compute_signals(pa.array(["a"]))
    assert list(signals) == list(SIGNALS)
    for name, values in signals.items():
        assert pa.array(values).type == SIGNALS[name].type


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_conformance_vectors(case: dict[str, Any]) -> None:
    text = "".join(piece * times for piece, times in case["text"])
    (signals,) = measured(text)
    assert {name: signals[name] for name in case["signals"]} == pytest.approx(case["signals"])
    fails = [
        rule.name
        for rules in RULES.values()
        for rule in rules
        if rule.name in case.get("passes", []) + case.get("fails", [])
        and not rule.passes(signals[rule.signal])
    ]
    assert sorted(fails) == sorted(case.get("fails", []))
