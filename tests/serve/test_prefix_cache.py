"""The prefix cache against its definition: a walk over all entries."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serve.engines.batched import prefix_cache
from serve.engines.batched.prefix_cache import TOKEN_BYTES, PrefixCache

STATE_BYTES = 16  # of a state, and per token of those that hold every prefix

Ids = tuple[int, ...]


class Tokens:
    """A model whose rows and states are the tokens that were read."""

    def __init__(self, *, keeps_every_prefix: bool) -> None:
        self.keeps_every_prefix = keeps_every_prefix
        self.row: Ids = ()

    def save(self, _row: int, length: int) -> tuple[torch.Tensor, ...]:
        room = STATE_BYTES * (length if self.keeps_every_prefix else 1) // 8
        return (torch.tensor([*self.row[:length], *[0] * room])[: max(room, length)],)

    def load(self, _row: int, state: tuple[torch.Tensor, ...], length: int) -> None:
        self.row = tuple(state[0][:length].tolist())


def cache_of(model: Any, max_bytes: int) -> PrefixCache:
    return PrefixCache(model, max_bytes)


class Definition:
    """What the cache does, by a walk over all entries; the most recently used come last."""

    def __init__(self, model: Tokens, max_bytes: int, min_tokens: int) -> None:
        self.model, self.max_bytes, self.min_tokens = model, max_bytes, min_tokens
        self.entries: list[tuple[Ids, int]] = []

    def restore(self, ids: Ids) -> int:
        wanted = ids[:-1]
        known = [(common(key, wanted), key) for key, _ in self.entries]
        if not self.model.keeps_every_prefix:
            known = [(length, key) for length, key in known if length == len(key)]
        length = max((length for length, _ in known), default=0)
        if length < self.min_tokens:
            return 0
        keys = [key for each, key in known if each == length]
        below = [key for key in keys if key <= wanted]
        best = max(below) if below else min(keys)
        entry = next(item for item in self.entries if item[0] == best)
        self.entries.remove(entry)
        self.entries.append(entry)
        return length

    def store(self, ids: Ids, state_bytes: int) -> None:
        def replaces(long: Ids, short: Ids) -> bool:
            begins = self.model.keeps_every_prefix and long[: len(short)] == short
            return long == short or begins

        size = state_bytes + TOKEN_BYTES * len(ids)
        known = any(replaces(key, ids) for key, _ in self.entries)
        if len(ids) < self.min_tokens or known or size > self.max_bytes:
            return
        self.entries = [(key, each) for key, each in self.entries if not replaces(ids, key)]
        self.entries.append((ids, size))
        while sum(each for _, each in self.entries) > self.max_bytes:
            self.entries.pop(0)


def common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next(
        (n for n, (one, other) in enumerate(pairs) if one != other), min(map(len, (first, second)))
    )


ids = st.lists(st.sampled_from([1, 2, 300]), min_size=1, max_size=7).map(tuple)


@pytest.mark.parametrize("keeps_every_prefix", [True, False])
@given(
    calls=st.lists(st.tuples(st.booleans(), ids), max_size=40),
    max_bytes=st.sampled_from([90, 400, 10_000]),
)
def test_the_cache_does_what_a_walk_over_all_entries_does(
    keeps_every_prefix: bool, calls: list[tuple[bool, Ids]], max_bytes: int
) -> None:
    model = Tokens(keeps_every_prefix=keeps_every_prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_cache, "MIN_TOKENS", 2)
        cache = cache_of(model, max_bytes)
        definition = Definition(model, max_bytes, 2)
        for is_store, tokens in calls:
            if is_store:
                model.row = tokens
                [state] = model.save(0, len(tokens))
                cache.store(0, tokens)
                definition.store(tokens, state.nbytes)
            else:
                model.row = ()
                length = cache.restore(0, tokens)
                assert length == definition.restore(tokens)
                assert model.row == tokens[:length]
            assert cache.size == sum(size for _, size in definition.entries) <= max_bytes
            assert len(cache) == len(definition.entries)


@pytest.mark.parametrize("keeps_every_prefix", [True, False])
@pytest.mark.parametrize(("used", "kept"), [((0,), [0, 2]), ((0, 1), [1, 2]), ((), [1, 2])])
def test_the_least_recently_used_entry_goes_first(
    keeps_every_prefix: bool, used: tuple[int, ...], kept: list[int]
) -> None:
    model = Tokens(keeps_every_prefix=keeps_every_prefix)
    prompts = [(number, *range(10)) for number in range(3)]
    model.row = prompts[0]
    [state] = model.save(0, len(prompts[0]))
    cache = cache_of(model, 2 * (state.nbytes + TOKEN_BYTES * len(prompts[0])))
    for number in (0, 1):
        model.row = prompts[number]
        cache.store(0, prompts[number])
    for number in used:
        assert cache.restore(0, (*prompts[number], 7))
    model.row = prompts[2]
    cache.store(0, prompts[2])
    assert [n for n in range(3) if cache.restore(0, (*prompts[n], 7))] == kept


@pytest.mark.parametrize("keeps_every_prefix", [True, False])
def test_few_of_many_entries_are_looked_at(
    keeps_every_prefix: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Tokens(keeps_every_prefix=keeps_every_prefix)
    cache = cache_of(model, 1 << 30)
    looks: list[int] = []
    look = prefix_cache._common_prefix

    def counted(first: bytes, second: bytes) -> int:
        looks.append(1)
        return look(first, second)

    monkeypatch.setattr(prefix_cache, "_common_prefix", counted)
    for number in range(2000):
        model.row = (number, *range(20))
        cache.store(0, model.row)
    assert cache.restore(0, (1500, *range(20), 7)) == 21
    assert cache.restore(0, (1500, *range(19), 7)) == (20 if keeps_every_prefix else 0)
    assert len(looks) < 10
