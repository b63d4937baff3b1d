"""Continuous batching: sequences join and leave at any step, and a long prompt is read between steps.

The first rows of the model are those of running sequences, one after the other, so that a step is one call for
all; then come those whose prompt is being read. One more row is for what is computed alone.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serve.engines.batched.prefix_cache import PrefixCache
from serve.engines.batched.sampling import SamplingState, choose
from serve.engines.batched.step_model import StepModel
from serve.engines.interface import Generation, Load, TokenScore

# Tokens of a prompt that are read between two steps, about as long as a step of some sequences takes; and otherwise.
CHUNK_BESIDE_OTHERS = 64
CHUNK = 128
SPARE_ROWS = 2  # one to compute a choice alone and to exchange rows, one to score


@dataclass
class Running:
    """A generation and how far it is.

    Attributes:
        id: by which the caller knows it.
        generation: what is asked for.
        ids: tokens that the model reads: of an encoder-decoder those of the target.
        read: how many of them it has read.
        sampling: how to choose.
    """

    id: int
    generation: Generation
    ids: list[int]
    sampling: SamplingState
    read: int = 0


@dataclass(frozen=True)
class Token:
    """A generated token: of which sequence, its score, and whether it is the last."""

    sequence: int
    score: TokenScore
    is_last: bool


@dataclass
class Counters:
    """Numbers since the start, as in ``Load``."""

    cached_tokens: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


class Scheduler:
    """Runs sequences on a model; all methods are called by one thread."""

    def __init__(self, model: StepModel, slots: int, prefixes: PrefixCache | None) -> None:
        """Run up to ``slots`` sequences together; the model has ``SPARE_ROWS`` rows more than that."""
        self._model, self._slots, self._prefixes = model, slots, prefixes
        self._spare, self._score_row = slots, slots + 1
        self._waiting: deque[tuple[int, Generation]] = deque()
        self._rows: list[Running] = []
        self._running = 0  # of the first rows
        self._turn = 0
        self._counters = Counters()

    @property
    def is_busy(self) -> bool:
        """Whether ``step`` has something to do."""
        return bool(self._rows or self._waiting)

    def load(self) -> Load:
        """Return what is being done."""
        return Load(len(self._rows), len(self._waiting), self._slots, **vars(self._counters))

    def submit(self, id_: int, generation: Generation) -> None:
        """Take a generation; it starts as soon as a slot is free."""
        self._counters.prompt_tokens += len(generation.prompt)
        self._waiting.append((id_, generation))

    def cancel(self, id_: int) -> None:
        """End a generation, if it has not ended; its slot is free at once."""
        self._waiting = deque(item for item in self._waiting if item[0] != id_)
        for row, sequence in enumerate(self._rows):
            if sequence.id == id_:
                self._remove(row)
                return

    def step(self) -> list[Token]:
        """Admit what waits, read a piece of the prompts, generate a token of each running sequence."""
        with torch.inference_mode():
            while self._waiting and len(self._rows) < self._slots:
                self._admit(*self._waiting.popleft())
            tokens = self._read_prompts()
            # A sequence whose prompt was just read has its first token, and takes part in this step.
            return tokens + self._generate()

    def _admit(self, id_: int, generation: Generation) -> None:
        row = len(self._rows)
        ids = self._model.start(row, generation.prompt)
        sampling = SamplingState(generation.sampling, frozenset(generation.prompt), Counter())
        self._rows.append(Running(id_, generation, ids, sampling))

    def _read_prompts(self) -> list[Token]:
        """Read as many tokens of prompts as fit between two steps; return the first tokens after their ends."""
        room, tokens = CHUNK_BESIDE_OTHERS if self._running else CHUNK, []
        while room and len(self._rows) > self._running:
            count, first = self._read_chunk(room)
            room -= count
            tokens += first
        return tokens

    def _read_chunk(self, limit: int) -> tuple[int, list[Token]]:
        """Read a piece of a prompt, of one after the other; return its length, and the token after the end."""
        row = self._running + self._turn % (len(self._rows) - self._running)
        self._turn += 1
        sequence = self._rows[row]
        if self._prefixes is not None and not sequence.read:
            # Not earlier: a prompt that came at the same time may have been read since.
            sequence.read = self._prefixes.restore(row, sequence.ids)
            self._counters.cached_tokens += sequence.read
        chunk = sequence.ids[sequence.read : sequence.read + limit]
        is_end = sequence.read + len(chunk) == len(sequence.ids)
        logits = self._model.read(row, sequence.read, chunk, int(is_end))
        sequence.read += len(chunk)
        if not is_end:
            return len(chunk), []
        if self._prefixes is not None:
            self._prefixes.store(row, sequence.ids)
        self._swap(row, self._running)
        self._running += 1
        return len(chunk), self._advance(logits, [sequence])

    def _generate(self) -> list[Token]:
        running = self._rows[: self._running]
        if not running:
            return []
        ids = [sequence.ids[-1] for sequence in running]
        logits = self._model.step(ids, [sequence.read for sequence in running])
        for sequence in running:
            sequence.read += 1
        return self._advance(logits, running)

    def _advance(self, logits_bv: Tensor, sequences: Sequence[Running]) -> list[Token]:
        """Choose the next token of sequences by their logits; those that it ends leave."""
        states = [sequence.sampling for sequence in sequences]
        choices = choose(logits_bv, states, self._model.noise)
        ids = [
            choice.id if choice.is_certain else self._choose_alone(sequence)
            for choice, sequence in zip(choices, sequences, strict=True)
        ]
        scores = score_tokens(logits_bv, ids, [sequence.generation for sequence in sequences])
        tokens = []
        for sequence, score in zip(sequences, scores, strict=True):
            sequence.ids.append(score.id)
            sequence.sampling.add(score.id)
            generation = sequence.generation
            is_last = (
                score.id in generation.stop_ids
                or sequence.sampling.count == generation.max_new_tokens
            )
            tokens.append(Token(sequence.id, score, is_last))
        self._counters.generated_tokens += len(tokens)
        ended = {token.sequence for token in tokens if token.is_last}
        for row in reversed(range(self._running)):  # from the last: the others keep their rows
            if self._rows[row].id in ended:
                sequence = self._rows[row]
                if self._prefixes is not None:
                    self._prefixes.store(row, sequence.ids[: sequence.read])
                self._remove(row)
        return tokens

    def _choose_alone(self, sequence: Running) -> int:
        """Choose a token by logits that nothing but the sequence decides."""
        *_, logits = read_alone(
            self._model, self._spare, sequence.generation.prompt, sequence.ids, 1
        )
        return choose(logits[-1:], [sequence.sampling], 0.0)[0].id

    def score(self, ids: Sequence[int], num_top: int) -> Iterator[list[TokenScore]]:
        """Score tokens given those before them, piece by piece, between the steps of sequences."""
        generation = Generation(tuple(ids), 1, logprobs=True, num_top=num_top)
        yield [TokenScore(ids[0], None)]
        known = 0
        for logits in read_alone(self._model, self._score_row, ids, ids[:-1], len(ids)):
            targets = ids[known + 1 : known + 1 + len(logits)]
            known += len(logits)
            yield score_tokens(logits, targets, [generation] * len(targets))

    def _remove(self, row: int) -> None:
        """Free a row, and close the gap."""
        if row < self._running:
            self._running -= 1
            self._swap_away(row, self._running)
            row = self._running
        self._swap_away(row, len(self._rows) - 1)
        self._rows.pop()

    def _swap_away(self, row: int, last: int) -> None:
        """Put what is in ``last`` in the place of a row that is not needed any more."""
        if row != last:
            self._model.move(last, row)
            self._rows[row], self._rows[last] = self._rows[last], self._rows[row]

    def _swap(self, row: int, other: int) -> None:
        if row != other:
            for source, target in ((row, self._spare), (other, row), (self._spare, other)):
                self._model.move(source, target)
            self._rows[row], self._rows[other] = self._rows[other], self._rows[row]


def read_alone(
    model: StepModel, row: int, prompt: Sequence[int], ids: Sequence[int], wanted: int
) -> Iterator[Tensor]:
    """Read tokens from the first on, in pieces of one size; yield logits after the last ``wanted``."""
    with torch.inference_mode():
        model.start(row, prompt)
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        left = len(ids) - start - len(chunk)
        with torch.inference_mode():
            yield model.read(row, start, chunk, max(0, min(len(chunk), wanted - left)))


def score_tokens(
    logits_bv: Tensor, ids: Sequence[int], generations: Sequence[Generation]
) -> list[TokenScore]:
    """Return the scores of a token per row, float[B, V], as far as they were asked for."""
    if not any(each.logprobs or each.num_top for each in generations):
        return [TokenScore(id_, None) for id_ in ids]
    log_p = torch.log_softmax(logits_bv, -1)
    own = log_p.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
    num_top = max(each.num_top for each in generations)
    if not num_top:
        return [TokenScore(id_, value) for id_, value in zip(ids, own, strict=True)]
    values, order = log_p.topk(min(num_top, log_p.shape[1]), dim=-1)
    pairs = zip(order.tolist(), values.tolist(), strict=True)
    return [
        TokenScore(id_, value, tuple(zip(best, scores, strict=True))[: generation.num_top])
        for id_, value, generation, (best, scores) in zip(ids, own, generations, pairs, strict=True)
    ]
