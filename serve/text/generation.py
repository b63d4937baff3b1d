"""The text that an engine generates, in pieces, each with its tokens."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from serve.engines.interface import Engine, Generation, TokenScore
from serve.text.stop import StopFinder
from serve.text.tokens import Detokenizer, TokenTexts

STOP, LENGTH = "stop", "length"


@dataclass(frozen=True)
class PlacedToken:
    """A token, and where its text begins in the text that was generated, in characters."""

    score: TokenScore
    offset: int


@dataclass
class Piece:
    """What became certain with a step.

    Attributes:
        text: whole characters; none only in the last piece.
        tokens: whose text begins in it; in the last piece all that are left, such as the end of text.
        finish_reason: of the last piece: ``stop`` or ``length``.
        num_tokens: generated so far, also those that a stop sequence cuts off.
    """

    text: str
    tokens: list[PlacedToken] = field(default_factory=list)
    finish_reason: str | None = None
    num_tokens: int = 0


async def generate_text(
    engine: Engine, generation: Generation, tokens: TokenTexts, stops: Sequence[str] = ()
) -> AsyncGenerator[Piece, None]:
    """Yield the text of a generation as it becomes certain; the last piece says why it ended.

    The texts of the pieces add up to the decoded tokens, up to the first stop sequence.

    Raises:
        EngineError: if the engine dies.
    """
    detokenizer, finder = Detokenizer(tokens), StopFinder(stops)
    waiting: list[PlacedToken] = []
    decoded, released, count = 0, 0, 0
    reason = LENGTH
    async with aclosing(engine.generate(generation)) as scores:
        async for score in scores:
            count += 1
            waiting.append(PlacedToken(score, decoded))
            if score.id in generation.stop_ids:
                reason = STOP
                break
            text = detokenizer.feed(score.id)
            decoded += len(text)
            certain, is_stopped = finder.feed(text)
            released += len(certain)
            if is_stopped:
                kept = [item for item in waiting if item.offset < released]
                yield Piece(certain, kept, STOP, count)
                return
            # A token waits until its first character is certain.
            ready = [item for item in waiting if item.offset < released]
            if certain:
                del waiting[: len(ready)]
                yield Piece(certain, ready, None, count)
    last = detokenizer.finish()
    certain, is_stopped = finder.feed(last)
    if not is_stopped:
        held, is_stopped = finder.finish()
        certain += held
    if is_stopped:
        reason = STOP
        released += len(certain)
        waiting = [item for item in waiting if item.offset < released]
    yield Piece(certain, waiting, reason, count)
