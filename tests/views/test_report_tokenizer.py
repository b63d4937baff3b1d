from typing import Any

from views.report.page import _environment
from views.report.sections.tokenizer import describe_fit

GROUP = {"documents": 9, "tokens": 500, "bytes": 1800, "words": 400}
RATES = {"tokens_per_word": 1.2275, "bytes_per_token": 3.6660}
TRAINING = {
    "documents": 8,
    "bytes": 1600,
    "words": 1000,
    "distinct_words": 300,
    "min_count": 1,
    "words_left_out": 0,
    "distinct_left_out": 0,
}


def page(**changes: Any) -> str:
    stats = {
        "vocab_size": 400,
        **RATES,
        "by_language": {"de": {**GROUP, **RATES}, "zh": {**GROUP, **RATES, "bytes": 1}},
        "by_source": {"site": {**GROUP, **RATES}},
        "normalized": 0,
        "round_trip": {"documents": 2, "exact": 2, "failing": []},
        "unused": {"count": 100, "fraction": 0.25, "examples": [{"id": 7, "text": "<b>rare"}]},
        "training": TRAINING,
        **changes,
    }
    data = describe_fit(stats)
    text = _environment().get_template("sections/tokenizer/section.html").render(data=data)
    return " ".join(text.split())


def test_the_section_says_what_the_facts_say() -> None:
    text = page()
    assert "1.23 tokens per word and 3.67 bytes per token" in text
    assert "2 of 2 held-out documents are equal to their text" in text
    assert "100 ids (25" in text
    assert "<code>&lt;b&gt;rare</code>" in text
    assert text.index("German") < text.index("Chinese")
    assert "left out" not in text
    assert "normalization" not in text


def test_failed_roundtrips_and_omitted_words_are_shown() -> None:
    trip = {"documents": 2, "exact": 1, "failing": [{"id": "d1", "url": "https://example.org/x"}]}
    left = {**TRAINING, "min_count": 3, "distinct_left_out": 90, "words_left_out": 120}
    text = page(round_trip=trip, training=left, normalized=5)
    assert "1 of 2 held-out documents" in text
    assert '<code title="d1">https://example.org/x</code>' in text
    assert "those that occur less than 3 times were left out, 12" in text
    assert "5 documents were changed by Unicode normalization" in text


def test_a_provided_tokenizer_was_not_trained() -> None:
    assert "It is provided by the recipe and has 400 ids." in page(training=None)
