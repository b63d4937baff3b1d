"""Which models a report explains, and of which input."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from lm.objectives.text_rows import TextEncoder
from tasks.finetune.explanations import encode_input
from tasks.finetune.predict.load import ReleasedModel
from tasks.finetune.score_task import _is_explained
from tests.finetune.tiny_runs import entry
from tests.lm.corpora import EOS, tokenizer

# What a model reads of an example, | for each end of text.
INPUTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "text": ("classification", {"text": "a crow", "text_pair": None}, "|a crow|"),
    "pair": ("classification", {"text": "a crow", "text_pair": "the sea"}, "|a crow|the sea|"),
    "words": ("tagging", {"words": ["a", "crow"], "predicate": None}, "|a crow|"),
    "predicate": ("tagging", {"words": ["a", "crow", "is"], "predicate": 1}, "|a| crow| is|"),
    "question": ("qa", {"question": "who?", "context": "a crow", "answers": []}, "|who?|a crow|"),
    "source": ("seq2seq", {"source": "a crow"}, "a crow|"),
    "source of a decoder": ("seq2seq", {"source": "a crow"}, "|a crow|"),
    "query": ("embedding", {"query": "a crow"}, "|a crow|"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_what_is_explained_is_what_the_model_reads(case: str) -> None:
    from transformers import BertConfig, LlamaConfig, PreTrainedTokenizerFast, T5Config

    task, row, expected = INPUTS[case]
    config = {"source": T5Config, "source of a decoder": LlamaConfig}.get(case, BertConfig)()
    plain = tokenizer()
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=EOS, model_max_length=64)
    encoder = TextEncoder(
        plain.to_str().encode(), fast.eos_token_id, ends_text=isinstance(config, BertConfig)
    )
    released = ReleasedModel(SimpleNamespace(config=config), fast, encoder)
    example = pa.Table.from_pylist([row])
    ids = encode_input(task, example, released, 64)
    assert fast.decode(ids.tolist()).replace(EOS, "|") == expected
    cut = encode_input(task, example, released, 6)
    assert len(cut) == min(6, len(ids))


@pytest.mark.parametrize(
    ("seeds", "budgets", "explained"),
    [
        ((), (0.1, 1.0), "task"),
        ((), (0.1, 0.5), "task-50pct"),
        ((1, 2), (1.0,), "task-seed1"),
        ((2, 1), (0.1,), "task-seed2"),  # with seeds there are models of all examples, too
    ],
)
def test_one_model_of_an_entry_is_explained(
    seeds: tuple[int, ...], budgets: tuple[float, ...], explained: str
) -> None:
    baselines = {"from_scratch": True, "budgets": budgets}
    item = entry("classification", "data.jsonl", seeds=seeds, baselines=baselines)
    assert [own.name for own in item.expand() if _is_explained(own)] == [explained]
