"""What each token adds to the label of a text."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lm.interpret.attribution import MAX_STEPS, Attribution, integrated_gradients, run


@dataclass(frozen=True)
class LabelAttribution:
    """A label of a text, and what each token adds to its logit.

    Attributes:
        label: its number.
        probability: the model's, of the label.
        attribution: of the logit.
    """

    label: int
    probability: float
    attribution: Attribution


def attribute_label(
    model: Any,
    tokenizer: Any,
    tokens_t: Tensor,
    label: int | None = None,
    max_steps: int = MAX_STEPS,
) -> LabelAttribution:
    """Attribute a label's logit to the tokens of a text.

    Args:
        model: of transformers, for sequence classification.
        tokenizer: its own.
        tokens_t: int64[T], with the tokens around the text.
        label: its number; by default the most probable one.
        max_steps: points at which gradients are taken, at most.
    """
    with torch.no_grad():
        logits = run(model, tokens_t[None]).logits[0]
    number = int(logits.argmax()) if label is None else label
    several = model.config.problem_type == "multi_label_classification"
    probability = logits.sigmoid() if several else logits.softmax(-1)
    attribution = integrated_gradients(
        model,
        tokens_t,
        make_baseline(tokenizer, tokens_t),
        lambda output: output.logits[:, number],
        max_steps,
    )
    return LabelAttribution(number, float(probability[number]), attribution)


def make_baseline(tokenizer: Any, tokens_t: Tensor) -> Tensor:
    """Return the text in which nothing is said: masks, or ends of text, in the place of all its tokens.

    Special tokens stay: they are no part of what is said.
    """
    blank = tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    special = torch.tensor(sorted(tokenizer.all_special_ids), dtype=torch.int64)
    return torch.where(torch.isin(tokens_t, special), tokens_t, blank)


def spell_tokens(tokenizer: Any, tokens_t: Tensor) -> list[str]:
    """Return the text of each token; parts of characters are shown as replacement characters."""
    return [str(tokenizer.decode([number])) for number in tokens_t.tolist()]
