"""Score items with a model: the pure function of the stage.

A continuation is tokenized as lm-evaluation-harness does: together with its context, and cut where the context's
own tokens end. So figures are those of lm-eval, which a test compares.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from infra.formats.megatron import Tokens
from lm.scoring.answers import normalize_answer, token_f1
from lm.scoring.language_model import GenerationConfig, LanguageModel, MaskedScorer
from tasks.suites.answers import find_answer, is_accepted
from tasks.suites.config import GENERATES, HAS_DELIMITER, SuiteConfig
from tasks.suites.items import SuiteItem

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("suite", pa.string()),
        ("item", pa.string()),
        ("domain", pa.string()),
        ("cluster", pa.string()),
        ("gold", pa.string()),  # the right answer, or null of a text without one
        ("prediction", pa.string()),  # the chosen or generated answer
        ("nats", pa.list_(pa.float64())),  # -ln p of each choice
        ("bytes", pa.list_(pa.int64())),  # of what these are of, the delimiter included
    ]
)


@dataclass(frozen=True)
class ScoredItem:
    """What a model does with an item.

    Attributes:
        metrics: name -> value and weight.
        row: of ``SCHEMA``.
    """

    metrics: Mapping[str, tuple[float, float]]
    row: Mapping[str, Any]

    def item_rows(self) -> Iterator[dict[str, Any]]:
        """Yield rows of ``infra.schemas.metrics.ITEMS``: of the suite, and of the item's domain."""
        suites = [self.row["suite"]]
        if self.row["domain"] is not None:
            suites.append(f"{suites[0]}.{self.row['domain']}")
        for suite in suites:
            for metric, (value, weight) in self.metrics.items():
                names = {"suite": suite, "item": self.row["item"], "cluster": self.row["cluster"]}
                yield {**names, "metric": metric, "value": value, "weight": weight}


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[Tokens, Tokens]:
    """Return the tokens of a context and of what follows it, as lm-evaluation-harness cuts them.

    White space at the end of the context belongs to the continuation. If both share a token, it is the
    continuation's.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    whole = _encode(tokenizer, kept + continuation)
    cut = min(len(_encode(tokenizer, kept)), len(whole) - 1) if kept else 0
    return whole[:cut], whole[cut:]


def _encode(tokenizer: Tokenizer, text: str) -> Tokens:
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)


def score_items(
    config: SuiteConfig,
    items: Sequence[SuiteItem],
    prompts: Sequence[str],
    model: LanguageModel,
    tokenizer: Tokenizer,
    eos: int,
) -> list[ScoredItem]:
    """Score items of a suite, in order.

    Args:
        config: the suite.
        items: n items.
        prompts: what is read before the answer of each.
        model: scores and generates.
        tokenizer: of the model.
        eos: the id that ends a text.
    """
    if config.type == "perplexity":
        texts = [np.append(_encode(tokenizer, item.answer), eos) for item in items]
        scored = model.score_texts(texts)
        item_nats = [[float(nats.sum())] for nats in scored]
        is_greedy = [False] * len(items)
    else:
        texts_to_score = [
            _continuations(config, item, prompt)
            for item, prompt in zip(items, prompts, strict=True)
        ]
        pairs = [encode_pair(tokenizer, *pair) for texts in texts_to_score for pair in texts]
        scores = iter(model.score_continuations(pairs))
        by_item = [[next(scores) for _ in texts] for texts in texts_to_score]
        item_nats = [[score.nats for score in row] for row in by_item]
        is_greedy = [row[0].is_greedy for row in by_item]
    generated: Sequence[str | None] = [None] * len(items)
    if config.type in GENERATES:
        generated = _generate(config, prompts, model, tokenizer)
    return [
        _measure(config, item, nats, text, is_greedy=greedy)
        for item, nats, text, greedy in zip(items, item_nats, generated, is_greedy, strict=True)
    ]


def score_masked_items(
    config: SuiteConfig,
    items: Sequence[SuiteItem],
    model: MaskedScorer,
    tokenizer: Tokenizer,
) -> list[ScoredItem]:
    """Score pairs by pseudo-log-likelihood (Salazar et al. 2020): each token is masked alone.

    Of counterfactual pairs only the tokens of the continuation are, as of CrowS-Pairs (Nangia et al. 2020).
    """
    parts = [
        encode_pair(tokenizer, *pair)
        for item in items
        for pair in _continuations(config, item, item.context)
    ]
    sums = iter(
        model.score_tokens(
            [np.concatenate([*pair, [model.eos]]) for pair in parts],
            [np.arange(len(context), len(context) + len(rest)) for context, rest in parts],
        )
    )
    return [
        _measure(config, item, [float(next(sums).sum()) for _ in "ab"], None, is_greedy=False)
        for item in items
    ]


def _continuations(config: SuiteConfig, item: SuiteItem, prompt: str) -> list[tuple[str, str]]:
    """Return the contexts of an item and what follows each, all of which are scored."""
    delimiter = config.delimiter if config.type in HAS_DELIMITER else ""
    if item.other_context is not None:
        return [(text, delimiter + item.answer) for text in (prompt, item.other_context)]
    if item.contexts:
        return [
            (prompt + context, delimiter + text)
            for context, text in zip(item.contexts, item.choices, strict=True)
        ]
    # Of accepted answers the first is scored; choices are scored all.
    is_choice = config.type in ("multiple_choice", "minimal_pairs")
    texts = item.choices if is_choice else (item.answer,)
    return [(prompt, delimiter + text) for text in texts]


def _measure(
    config: SuiteConfig,
    item: SuiteItem,
    nats: Sequence[float],
    generated: str | None,
    *,
    is_greedy: bool,
) -> ScoredItem:
    is_choice = config.type in ("multiple_choice", "minimal_pairs")
    sizes = [len(text.encode()) for _, text in _continuations(config, item, item.context)]
    texts = item.choices if is_choice else (item.answer,)
    gold = item.gold if is_choice else 0
    bits = nats[gold] / math.log(2) / sizes[gold], float(sizes[gold])
    best = int(np.argmin(nats))
    prediction: str | None = generated
    metrics: dict[str, tuple[float, float]]
    if config.type == "multiple_choice":
        # By length, as options of different lengths have different probabilities whatever they say.
        in_bytes = config.normalize_by == "bytes"
        lengths = [len(text.encode() if in_bytes else text) for text in texts]
        best_by_length = int(np.argmin([n / size for n, size in zip(nats, lengths, strict=True)]))
        metrics = {
            "accuracy": (float(best == gold), 1.0),
            "accuracy_norm": (float(best_by_length == gold), 1.0),
        }
        metrics["bits_per_byte"] = bits
        prediction = (item.contexts or texts)[best]
    elif config.type == "minimal_pairs":
        metrics = {"accuracy": (float(nats[0] < nats[1]), 1.0)}
        prediction = texts[best]
    elif item.other_context is not None:
        # ln p after the first context minus ln p after the second: 0 if the context makes no difference.
        gap = nats[1] - nats[0]
        metrics = {"gap": (gap, 1.0), "absolute_gap": (abs(gap), 1.0)}
        prediction = (item.context, item.other_context)[best]
    elif config.type == "perplexity":
        metrics = {"bits_per_byte": bits}
    elif generated is None:
        metrics = {"accuracy": (float(is_greedy), 1.0), "bits_per_byte": bits}
    else:
        if config.answer is not None:
            values = {"exact_match": float(is_accepted(generated, item.choices, config.answer))}
        else:
            wanted = ("exact_match",) if config.type == "exact_match" else config.metrics
            values = {name: _compare(name, item.choices, generated) for name in wanted}
        metrics = {name: (value, 1.0) for name, value in values.items()} | {"bits_per_byte": bits}
    return ScoredItem(
        metrics,
        {
            "id": f"{config.name}:{item.id}",
            "suite": config.name,
            "item": item.id,
            "domain": item.domain,
            "cluster": item.cluster,
            "gold": None
            if config.type == "perplexity"
            else (item.contexts or item.choices)[item.gold],
            "prediction": prediction,
            "nats": list(nats),
            "bytes": sizes,
        },
    )


def _generate(
    config: SuiteConfig, prompts: Sequence[str], model: LanguageModel, tokenizer: Tokenizer
) -> list[str]:
    """Continue the prompts greedily, up to a stop text."""
    greedy = GenerationConfig(config.max_new_tokens, temperature=0, top_k=1)
    ids = [_encode(tokenizer, prompt) for prompt in prompts]
    return [
        _cut_answer(config, str(tokenizer.decode(generated, skip_special_tokens=True)))
        for generated in model.generate(ids, [0] * len(ids), greedy)
    ]


def _cut_answer(config: SuiteConfig, text: str) -> str:
    """Return the answer in a generated text."""
    if config.answer is not None:
        for stop in config.stop:  # one after the other, as lm-eval does
            text = text.split(stop, maxsplit=1)[0]
        return find_answer(text, config.answer)
    # White space before the answer delimits it, and is not its end.
    start = len(text) - len(text.lstrip())
    cuts = [text.find(stop, start) for stop in config.stop]
    end = min((cut for cut in cuts if cut >= 0), default=len(text))
    return text[:end].strip()


def _compare(metric: str, answers: Sequence[str], generated: str) -> float:
    """Return the best value of a metric over the accepted answers."""
    return max(_METRICS[metric](answer, generated) for answer in answers)


def _exact_match(answer: str, generated: str) -> float:
    return float(normalize_answer(answer) == normalize_answer(generated))


def _rouge(name: str) -> Callable[[str, str], float]:
    def compute(answer: str, generated: str) -> float:
        from lm.scoring.generated_text import summarization_stats

        return float(summarization_stats([answer], [generated])[name].stats[0, 0])

    return compute


def _sentence_bleu(answer: str, generated: str) -> float:
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU(effective_order=True, force=True).sentence_score(generated, [answer]).score)


def _chrf(answer: str, generated: str) -> float:
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(generated, [answer]).score)


_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": _exact_match,
    "f1": token_f1,
    "rouge1": _rouge("rouge1"),
    "rouge2": _rouge("rouge2"),
    "rougeL": _rouge("rougeL"),
    "sentence_bleu": _sentence_bleu,
    "chrf": _chrf,
}
