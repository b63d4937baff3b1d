"""Masks: nothing of a value remains, and offsets of other characters are mapped."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.select.pii_mask import apply_edits, edit_document, map_offsets, merge_spans

KINDS = ("email", "ip", "phone", "card", "iban")


def span(start: int, end: int, kind: str = "email") -> dict[str, int | str]:
    return {"start": start, "end": end, "kind": kind}


SPANS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 9), st.sampled_from(KINDS)).map(
        lambda s: span(s[0], s[0] + s[1], s[2])
    ),
    max_size=5,
)


def test_each_kind_has_its_placeholder() -> None:
    text = "Ünal <a@b.c>, 10.0.0.1"
    spans = [span(14, 22, "ip"), span(6, 11)]
    assert apply_edits(text, spans) == "Ünal <<EMAIL>>, <IP>"
    assert apply_edits(text, []) == text


def test_overlapping_spans_are_merged() -> None:
    assert merge_spans([span(5, 9, "phone"), span(0, 6, "card"), span(9, 10)]) == [
        (0, 9, "card"),
        (9, 10, "email"),
    ]


def test_titles_are_masked_as_well() -> None:
    document = {
        "text": "a@b.c writes",
        "title": "Mail a@b.c",
        "chapters": [{"title": "One", "start": 0}, {"title": "a@b.c, 1.1.1.1", "start": 6}],
    }
    spans = {
        "pii": [span(0, 5)],
        "pii_title": [span(5, 10)],
        "pii_chapters": [
            {"chapter": 1, **span(0, 5)},
            {"chapter": 1, **span(7, 14, "ip")},
        ],
    }
    masked, kinds = edit_document(document, spans)
    assert masked == {
        "text": "<EMAIL> writes",
        "title": "Mail <EMAIL>",
        "chapters": [{"title": "One", "start": 0}, {"title": "<EMAIL>, <IP>", "start": 8}],
    }
    assert kinds == {"email": 3, "ip": 1}
    bare = {"text": "a@b.c writes", "title": None, "chapters": None}
    empty: dict[str, Any] = {"pii_title": [], "pii_chapters": None}
    assert edit_document(bare, {**spans, **empty})[0] == {**bare, "text": "<EMAIL> writes"}


@given(SPANS)
def test_masked_characters_are_removed_and_all_others_kept(
    spans: list[dict[str, int | str]],
) -> None:
    private = {i for s in spans for i in range(int(s["start"]), int(s["end"]))}
    text = "".join("#" if i in private else chr(0x4E00 + i) for i in range(40))
    out = apply_edits(text, spans)
    assert "#" not in out
    assert [c for c in out if ord(c) >= 0x4E00] == [c for c in text if c != "#"]
    offsets = list(range(41))
    new = map_offsets(offsets, spans)
    assert new == sorted(new)
    assert new[40] == len(out)
    for i in range(40):
        if i not in private:
            assert out[new[i]] == text[i]
        elif i - 1 not in private:
            assert out[new[i]] == "<"


CUTS = st.lists(
    st.tuples(st.integers(0, 35), st.integers(1, 9)).map(lambda c: (c[0], min(40, c[0] + c[1]))),
    max_size=4,
)


@given(SPANS, CUTS)
def test_cuts_and_masks_are_applied_in_one_pass(
    spans: list[dict[str, int | str]], cuts: list[tuple[int, int]]
) -> None:
    private = {i for s in spans for i in range(int(s["start"]), int(s["end"]))}
    removed = {i for start, end in cuts for i in range(start, end)}
    text = "".join("#" if i in private else chr(0x4E00 + i) for i in range(40))
    out = apply_edits(text, spans, cuts)
    assert "#" not in out
    left = [i for i in range(40) if i not in private | removed]
    assert [c for c in out if ord(c) >= 0x4E00] == [text[i] for i in left]
    new = map_offsets(range(41), spans, cuts)
    assert new == sorted(new)
    assert new[40] == len(out)
    assert all(out[new[i]] == text[i] for i in left)
    whole = [set(range(start, end)) for start, end, _ in merge_spans(spans)]
    masks = sum(not inside <= removed for inside in whole)
    assert out.count("<") == masks
    document = {"text": text, "title": None, "chapters": None}
    masked, kinds = edit_document(document, {"pii": spans}, cuts)
    assert masked["text"] == out
    assert sum(kinds.values()) == masks
