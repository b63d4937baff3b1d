"""Explain what a released model makes of texts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from infra.errors import UserError
from lm.interpret.attention import attention_maps, attention_rollout
from lm.interpret.attribution import MAX_STEPS, integrated_gradients, run
from lm.interpret.embeddings import nearest_neighbors, project
from lm.interpret.labels import attribute_label, make_baseline
from lm.interpret.released import ReleasedModel

NEIGHBORS = 5


@dataclass(frozen=True)
class Scored:
    """A score and what each token adds to it.

    Attributes:
        target: the label, or the token that was generated.
        probability: the model's, of the target.
        total: difference of the score from that of the baseline.
        delta: what the attributions add up to, minus ``total``.
        scores: of each token that the model read.
    """

    target: str
    probability: float
    total: float
    delta: float
    scores: list[float]


@dataclass(frozen=True)
class TextExplanation:
    """What a model makes of a text.

    Attributes:
        text: as it was given.
        tokens: as the model reads them; with what it wrote, if it continues text.
        num_read: number of tokens of the text itself, the first ones.
        attributions: of the label, or of each token that was written.
        attention: [layers][heads][T][T]; ``None`` for models without.
        rollout: [T][T], of the last layer.
        neighbors: for each token the most similar tokens by embedding, with their cosine.
        points: for each token its embedding's first two principal components, over all texts.
    """

    text: str
    tokens: list[str]
    num_read: int
    attributions: list[Scored]
    attention: list[Any] | None
    rollout: list[list[float]] | None
    neighbors: list[list[tuple[str, float]]]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Explanation:
    """What a model makes of texts.

    Attributes:
        model: where it is.
        hf_class: its class.
        score: what the attributions are of; ``None`` if the model has nothing to attribute.
        texts: one for each.
    """

    model: str
    hf_class: str
    score: str | None
    texts: list[TextExplanation]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def explain(
    released: ReleasedModel,
    where: str,
    texts: Sequence[str],
    *,
    target: str | None = None,
    max_new_tokens: int = 8,
    max_steps: int = MAX_STEPS,
) -> Explanation:
    """Explain what a model makes of texts.

    Args:
        released: the model.
        where: it is.
        texts: to explain.
        target: the label to explain; by default the one that the model assigns.
        max_new_tokens: to write, if the model continues text.
        max_steps: points at which gradients are taken, at most, for each attribution.

    Raises:
        UserError: if a text has no token, or the target is no label of the model.
    """
    if target is not None and target not in released.labels:
        known = ", ".join(released.labels) or f"none: it is a {released.hf_class}"
        raise UserError(f"{where} has no label {target!r}; its labels: {known}")
    read = [released.encode(text) for text in texts]
    for text, ids in zip(texts, read, strict=True):
        if not len(ids):
            raise UserError(f"the text {text!r} has no token")
    return explain_tokens(
        released,
        where,
        texts,
        read,
        target=target,
        max_new_tokens=max_new_tokens,
        max_steps=max_steps,
    )


def explain_tokens(
    released: ReleasedModel,
    where: str,
    texts: Sequence[str],
    read: Sequence[Tensor],
    *,
    target: str | None = None,
    max_new_tokens: int,
    max_steps: int,
) -> Explanation:
    """Explain texts as they are given in tokens, int64[T] each with T > 0; see ``explain``."""
    score = None
    if released.labels:
        score = "logit of the label"
    elif released.continues_text or released.writes_target:
        score = "log-probability of each token that was written, in nats"
    all_ids = [_write(released, ids, max_new_tokens) for ids in read]
    table = released.model.get_input_embeddings().weight.detach()
    points = project(table[torch.cat(all_ids)]).split([len(ids) for ids in all_ids])
    return Explanation(
        where,
        released.hf_class,
        score,
        [
            _explain_text(
                released, text, ids, len(own), at, _Request(target, max_new_tokens, max_steps)
            )
            for text, ids, own, at in zip(texts, all_ids, read, points, strict=True)
        ],
    )


@dataclass(frozen=True)
class _Request:
    target: str | None
    max_new_tokens: int
    max_steps: int


@torch.no_grad()
def _write(released: ReleasedModel, ids: Tensor, count: int) -> Tensor:
    """Return a text with what the model continues it by: the most probable tokens."""
    if not released.continues_text:
        return ids
    limit = released.max_tokens
    for _ in range(count if limit is None else min(count, limit - len(ids))):
        ids = torch.cat([ids, run(released.model, ids[None]).logits[0, -1:].argmax(-1)])
        if ids[-1] == released.tokenizer.eos_token_id:
            break
    return ids


def _explain_text(
    released: ReleasedModel,
    text: str,
    ids: Tensor,
    num_read: int,
    points: Tensor,
    request: _Request,
) -> TextExplanation:
    maps = attention_maps(released.model, ids)
    table = released.model.get_input_embeddings().weight.detach()
    neighbors = nearest_neighbors(table, ids, NEIGHBORS)
    if released.labels:
        attributions = [_attribute_label(released, ids, request.target, request.max_steps)]
    elif released.continues_text:
        attributions = [
            _attribute_token(released, ids[:at], int(ids[at]), request.max_steps)
            for at in range(num_read, len(ids))
        ]
    elif released.writes_target:
        written = _write_target(released, ids, request.max_new_tokens)
        attributions = [
            _attribute_token(released, ids, number, request.max_steps, written[:at])
            for at, number in enumerate(written.tolist())
            if at
        ]
    else:
        attributions = []
    return TextExplanation(
        text,
        released.spell(ids),
        num_read,
        attributions,
        None if maps is None else maps.tolist(),
        None if maps is None else attention_rollout(maps)[-1].tolist(),
        [
            [(released.spell(torch.tensor([number]))[0], cosine) for number, cosine in own]
            for own in neighbors
        ],
        [(x, y) for x, y in points.tolist()],
    )


def _attribute_label(
    released: ReleasedModel, ids: Tensor, target: str | None, max_steps: int
) -> Scored:
    label = None if target is None else released.labels.index(target)
    explained = attribute_label(released.model, released.tokenizer, ids, label, max_steps)
    result = explained.attribution
    return Scored(
        released.labels[explained.label],
        explained.probability,
        result.total,
        result.delta,
        result.scores.tolist(),
    )


def _attribute_token(
    released: ReleasedModel,
    read: Tensor,
    number: int,
    max_steps: int,
    written: Tensor | None = None,
) -> Scored:
    """Attribute a token that is written to those that are read; of an encoder-decoder, after others."""

    def score(output: Any) -> Tensor:
        log_p: Tensor = output.logits[:, -1].log_softmax(-1)[:, number]
        return log_p

    with torch.no_grad():
        probability = float(score(_next(released, read, written)).exp())
    baseline = make_baseline(released.tokenizer, read)
    result = integrated_gradients(released.model, read, baseline, score, max_steps, written)
    name = released.spell(torch.tensor([number]))[0]
    return Scored(name, probability, result.total, result.delta, result.scores.tolist())


def _next(released: ReleasedModel, read: Tensor, written: Tensor | None) -> Any:
    if written is None:
        return run(released.model, read[None])
    ids = read[None]
    return released.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        decoder_input_ids=written[None],
        use_cache=False,
    )


@torch.no_grad()
def _write_target(released: ReleasedModel, source: Tensor, count: int) -> Tensor:
    """Return what a decoder reads at first, and the most probable tokens that it then writes."""
    written = torch.tensor([released.model.config.decoder_start_token_id])
    for _ in range(count):
        written = torch.cat([written, _next(released, source, written).logits[0, -1:].argmax(-1)])
        if written[-1] == released.tokenizer.eos_token_id:
            break
    return written
