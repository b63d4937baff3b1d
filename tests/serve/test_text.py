"""Tokens become whole characters, and stop sequences are found wherever tokens end."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from infra.errors import UserError
from serve.engines.interface import Generation, Load, TokenScore
from serve.text.generation import LENGTH, STOP, Piece, generate_text
from serve.text.stop import StopFinder
from serve.text.tokens import Detokenizer, TokenTexts
from tests.serve.served import END, byte_tokenizer

TOKENIZER = byte_tokenizer()
TOKENS = TokenTexts(TOKENIZER)


class Fixed:
    """An engine that says what it was given."""

    name = "fixed"
    context_length = 1000
    is_ready = True

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = ids
        self.given = 0
        self.closed = False

    async def generate(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        try:
            for token in self.ids[: generation.max_new_tokens]:
                self.given += 1
                yield TokenScore(token, -1.0)
        finally:
            self.closed = True

    async def score(self, ids: Sequence[int], num_top: int = 0) -> list[TokenScore]:
        raise NotImplementedError

    def load(self) -> Load:
        return Load(0, 0, 1)

    async def close(self) -> None:
        pass


def generate(ids: Sequence[int], stops: Sequence[str] = (), maximum: int = 500) -> list[Piece]:
    async def run() -> list[Piece]:
        wanted = Generation((1,), maximum, stop_ids=frozenset([END]))
        async with aclosing(generate_text(Fixed(ids), wanted, TOKENS, stops)) as pieces:
            return [piece async for piece in pieces]

    return asyncio.run(run())


@given(st.lists(st.integers(0, 257)))
def test_pieces_add_up_to_the_decoded_tokens_and_never_split_a_character(ids: list[int]) -> None:
    detokenizer = Detokenizer(TOKENS)
    pieces = [*map(detokenizer.feed, ids), detokenizer.finish()]
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(st.text())
def test_whole_texts_come_back(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert "".join(piece.text for piece in generate([*ids, END])) == text


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.data(),
)
def test_a_stop_sequence_ends_the_text_where_it_first_begins(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    finder = StopFinder(stops)
    out, stopped, rest = "", False, text
    while rest and not stopped:
        size = data.draw(st.integers(1, len(rest)))
        more, stopped = finder.feed(rest[:size])
        out, rest = out + more, rest[size:]
    if not stopped:
        more, stopped = finder.finish()
        out += more
    # Of what was fed, which may end before a stop sequence that begins earlier is complete.
    fed = text[: len(text) - len(rest)]
    starts = [fed.find(stop) for stop in stops if stop in fed]
    assert stopped == bool(starts)
    assert out == (fed[: min(starts)] if starts else text)


@given(st.text("aбc€", max_size=20), st.lists(st.text("aбc€", min_size=1, max_size=3), max_size=2))
def test_tokens_of_pieces_are_those_of_the_text(text: str, stops: list[str]) -> None:
    ids = TOKENIZER.encode(text).ids
    pieces = generate([*ids, END], stops)
    out = "".join(piece.text for piece in pieces)
    tokens = [item for piece in pieces for item in piece.tokens]
    cut = any(stop in text for stop in stops)
    assert pieces[-1].finish_reason == STOP
    assert [item.score.id for item in tokens] == [*ids, END][: len(tokens)]
    assert tokens[-1:] == [] or cut or tokens[-1].score.id == END
    for item in tokens:
        assert item.offset < len(out) or not cut
    joined = b"".join(TOKENS.to_bytes(item.score.id) for item in tokens)
    assert joined.startswith(out.encode())


def test_a_generation_that_a_stop_sequence_ends_is_closed_at_once() -> None:
    async def run() -> Fixed:
        engine = Fixed(TOKENIZER.encode("abcabc").ids)
        generation = Generation((1,), 100)
        async with aclosing(generate_text(engine, generation, TOKENS, ["c"])) as pieces:
            assert [piece.text async for piece in pieces] == ["ab", ""]
        return engine

    engine = asyncio.run(run())
    assert engine.given == 2
    assert engine.closed


def test_the_limit_is_named() -> None:
    assert generate([98, 99, 100], maximum=2)[-1].finish_reason == LENGTH


def test_a_token_within_a_character_is_spelled_as_bytes() -> None:
    assert TOKENS.spell(1 + 0xE2) == "bytes:\\xe2"
    assert TOKENS.spell(END) == "<|endoftext|>"
    assert TOKENS.spell(257) == "ab"


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        TokenTexts(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
