"""What a released model looks at in test examples, for the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lm.interpret.attention import attention_maps, attention_rollout
from lm.interpret.interpretation import MAX_TOKENS as INTERPRET_TOKENS
from lm.interpret.interpretation import interpret_model
from lm.interpret.labels import attribute_label, spell_tokens
from lm.interpret.released import ReleasedModel as InterpretedModel
from lm.objectives import spans, tagging
from tasks.finetune.encode import to_questions
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.load import ReleasedModel, load_released
from tasks.finetune.score import SHOWN_ORIGIN

MAX_EXAMPLES = 3  # that the model got wrong, and as many that it got right
MAX_TOKENS = 64  # of a text; more would not be read in the report
MAX_STEPS = 200
TEXT = {"completion": "text", "embedding": "query"}


def explain_model(task: str, folder: Path, test: pa.Table, own: Predictions) -> dict[str, Any]:
    """Return what a report shows of a model, as JSON values.

    Args:
        task: the task.
        folder: of the release.
        test: its test examples.
        own: the model's predictions for them.

    Returns:
        ``interpretation``: the first example, by id, with the place where it is from and what ``interpret_model`` says
        of it; ``explanations`` of a classifier (``explain_labels``).
    """
    out: dict[str, Any] = {}
    released = load_released(folder)
    if test.num_rows:
        first = int(np.argsort(np.array(test["id"].to_pylist()))[0])
        example = test.slice(first, 1)
        (row,) = example.to_pylist()
        drawn = interpret_model(
            _interpreted(released),
            encode_input(task, example, released, INTERPRET_TOKENS),
        )
        if drawn is not None:
            out["interpretation"] = {**{key: row[key] for key in SHOWN_ORIGIN}, **drawn}
    if task == "classification":
        out["explanations"] = explain_labels(released, test, own)
    return out


def encode_input(
    task: str, example: pa.Table, released: ReleasedModel, max_tokens: int
) -> torch.Tensor:
    """Return what a model reads of an example, int64[T], with all that stands around its texts.

    It is what predictions are made from: both texts of a pair, the passage behind its question, the marks of a
    predicate, the end behind a source; of a dialogue, what precedes the first answer. Longer texts are cut.
    """
    (row,) = example.to_pylist()
    encoder, length = released.encoder, min(max_tokens, released.tokenizer.model_max_length)
    if task == "tagging":
        rows = tagging.encode_words(encoder, [row["words"]], [row["predicate"]], length).rows
    elif task == "qa":
        rows = spans.encode(encoder, to_questions(example), length).rows[:, 2:]  # without targets
    elif task == "seq2seq":
        start = [] if released.is_encoder_decoder else [released.eos_id]
        ids = [token for token, _ in encoder.encode_plain(row["source"])]
        rows = np.array([[*start, *ids[: length - len(start) - 1], released.eos_id]])
    elif task == "chat":
        turns = [item["role"] for item in row["messages"]]
        asked = row["messages"][: turns.index("assistant")]
        text = released.tokenizer.apply_chat_template(
            asked, tokenize=False, add_generation_prompt=True
        )
        return _interpreted(released).encode(text, length)
    elif task == "classification":
        rows = encoder.encode([row["text"]], [row["text_pair"] or None], length).rows
    else:
        rows = encoder.encode([row[TEXT[task]]], [None], length).rows
    return torch.from_numpy(rows[0][rows[0] >= 0].astype(np.int64))


def _interpreted(released: ReleasedModel) -> InterpretedModel:
    return InterpretedModel(released.model, released.tokenizer, type(released.model).__name__)


def explain_labels(
    released: ReleasedModel, test: pa.Table, own: Predictions
) -> list[dict[str, Any]]:
    """Attribute the predicted labels of the first examples, by id, to their tokens.

    Args:
        released: the model.
        test: examples of ``classification``.
        own: the model's predictions for them.

    Returns:
        For each its place (``id``, ``file``, ``row``), ``gold``, the explained label ``predicted`` with
        its ``probability``, ``tokens``, ``scores``, and ``total`` and ``delta`` of ``Attribution``; for the
        first wrong and the first right one ``attention``, [T][T], followed through all layers.
    """
    model, tokenizer = released.model, released.tokenizer
    order = np.argsort(np.array(test["id"].to_pylist())).tolist()
    gold = test["labels"].to_pylist()
    is_right = [
        sorted(items) == sorted(own_gold) for items, own_gold in zip(own.items, gold, strict=True)
    ]
    wrong = [index for index in order if not is_right[index]][:MAX_EXAMPLES]
    right = [index for index in order if is_right[index]][:MAX_EXAMPLES]
    pictured = {*wrong[:1], *right[:1]}
    explanations = []
    for index in (*wrong, *right):
        example = test.slice(index, 1)
        (row,) = example.to_pylist()
        tokens = encode_input("classification", example, released, MAX_TOKENS)
        explained = attribute_label(model, tokenizer, tokens, max_steps=MAX_STEPS)
        explanations.append(
            {
                **{key: row[key] for key in SHOWN_ORIGIN},
                "gold": gold[index],
                "predicted": model.config.id2label[explained.label],
                "probability": explained.probability,
                "tokens": spell_tokens(tokenizer, tokens),
                "scores": explained.attribution.scores.tolist(),
                "total": explained.attribution.total,
                "delta": explained.attribution.delta,
                "attention": _roll_out(model, tokens) if index in pictured else None,
            }
        )
    return explanations


def _roll_out(model: Any, tokens_t: torch.Tensor) -> list[list[float]] | None:
    """Return which token's state comes from which, two digits each; ``None`` for models without attention."""
    maps = attention_maps(model, tokens_t)
    if maps is None:
        return None
    return [[round(value, 2) for value in row] for row in attention_rollout(maps)[-1].tolist()]
