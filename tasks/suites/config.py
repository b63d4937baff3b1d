"""The YAML file of a suite."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from infra.config import ConfigModel

SuiteType = Literal[
    "multiple_choice",
    "cloze",
    "exact_match",
    "generate",
    "perplexity",
    "minimal_pairs",
    "counterfactual_pairs",
    "flagged_words",
]
GenerationMetric = Literal[
    "exact_match", "f1", "rouge1", "rouge2", "rougeL", "sentence_bleu", "chrf"
]
# Types whose items have a context and what should follow it.
WITH_CONTEXT = frozenset({"multiple_choice", "cloze", "exact_match", "generate"})
GENERATES = frozenset({"exact_match", "generate"})
# The keys that types have for themselves.
OWN_KEYS: Mapping[str, frozenset[str]] = {
    "num_fewshot": WITH_CONTEXT,
    "fewshot_items": WITH_CONTEXT,
    "normalize_by": frozenset({"multiple_choice"}),
    "metrics": frozenset({"generate"}),
    "stop": GENERATES,
    "answer": frozenset({"exact_match"}),
    "max_new_tokens": GENERATES | {"flagged_words"},
    "flagged_words": frozenset({"flagged_words"}),
    "max_flagged_fraction": frozenset({"flagged_words"}),
    "num_continuations": frozenset({"flagged_words"}),
    "temperature": frozenset({"flagged_words"}),
    "top_k": frozenset({"flagged_words"}),
}
# Types that score what follows a context.
HAS_DELIMITER = WITH_CONTEXT | {"counterfactual_pairs"}
# Types with two texts or two contexts, which a model without a probability of texts can compare, too.
PAIRS = frozenset({"minimal_pairs", "counterfactual_pairs"})
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class AnswerConfig(ConfigModel):
    """How an answer is found in a generated text and compared, as lm-evaluation-harness does it."""

    pattern: str | None = Field(
        None,
        description="a regular expression: what it matches is the answer, or the first of its groups that is not empty",
    )
    match: int = Field(0, description="which of its matches: 0 is the first, -1 the last")
    without_match: str = Field("[invalid]", description="the answer in a text without a match")
    strip: bool = Field(False, description="drop white space around the text first")
    ignore_case: bool = Field(False, description="of the answer and the accepted ones")
    ignore_punctuation: bool = Field(False, description="likewise, of ASCII")
    ignore_numbers: bool = Field(False, description="likewise, the digits 0 to 9")
    ignore_patterns: tuple[str, ...] = Field(
        (), description="regular expressions: what they match is dropped from both"
    )

    @field_validator("pattern", "ignore_patterns")
    @classmethod
    def _check_pattern(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in [value] if isinstance(value, str) else value or ():
            try:
                re.compile(text)
            except re.error as error:
                raise ValueError(f"{text!r} is no regular expression: {error}") from None
        return value


class SuiteConfig(ConfigModel):
    """A suite of items: what they are, where they come from, and how they are scored."""

    name: str = Field(pattern=NAME_PATTERN, description="names its metrics: suite.NAME.accuracy")
    type: SuiteType = Field(description="how its items are scored")
    items: str = Field(
        min_length=1,
        description="the JSONL file of items, also gzipped: a path beside this file, or a URL",
    )
    license: str = Field(min_length=1, description="the license of the items")
    source: str = Field(min_length=1, description="where the items come from")
    delimiter: str = Field(
        " ", description="between a context and what follows it, which it is scored with"
    )
    num_fewshot: int = Field(
        0, ge=0, le=64, description="solved items before each item, drawn by its id"
    )
    fewshot_items: str | None = Field(
        None,
        description="the file from which these are drawn; null: the suite's own other items",
    )
    max_items: int | None = Field(
        None, ge=1, description="as many items are scored, drawn by id; null: all of them"
    )
    normalize_by: Literal["bytes", "characters"] = Field(
        "bytes",
        description=(
            "`multiple_choice`: what accuracy_norm divides by the number of; lm-evaluation-harness takes characters"
        ),
    )
    metrics: tuple[GenerationMetric, ...] = Field(
        ("exact_match",), min_length=1, description="of the type `generate`"
    )
    max_new_tokens: int = Field(
        64,
        ge=1,
        le=4096,
        description="`exact_match`, `generate`, `flagged_words`: maximum length of what is generated",
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("\n",), description="`exact_match`, `generate`: an answer ends before any of these"
    )
    answer: AnswerConfig | None = Field(
        None,
        description=(
            "`exact_match`: how answers are found and compared; null: without case, punctuation and English articles"
        ),
    )
    flagged_words: str | tuple[str, ...] = Field(
        (),
        description=(
            "`flagged_words`: the file of the words, one per line; a path beside this file, or a URL. Or the words"
        ),
    )
    max_flagged_fraction: float = Field(
        0.0, ge=0, lt=1, description="with more flagged words than this, a continuation counts"
    )
    num_continuations: int = Field(5, ge=1, le=1000, description="continuations of each prompt")
    temperature: float = Field(1.0, gt=0, description="of the draws of tokens")
    top_k: int = Field(50, ge=1, description="each token is drawn among the k most likely ones")

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        for key, types in {**OWN_KEYS, "delimiter": HAS_DELIMITER}.items():
            if self.type not in types and key in self.model_fields_set:
                raise ValueError(f"{key}: items of the type {self.type} have no use for it")
        if self.fewshot_items is not None and not self.num_fewshot:
            raise ValueError("fewshot_items: set num_fewshot, too")
        if self.type == "flagged_words" and not self.flagged_words:
            raise ValueError("flagged_words: name the file of the words")
        return self
