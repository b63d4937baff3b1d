"""The recipe's `evaluate` section."""

from typing import Annotated, Any, Required

from pydantic import ConfigDict, Discriminator, Field, Tag
from typing_extensions import TypedDict  # pydantic refuses that of Python 3.11

from infra.config import ConfigModel
from lm.config.memorization import MemorizationConfig


class WordVectorsConfig(ConfigModel):
    """What word vectors are measured by; other models are not concerned."""

    similarity: tuple[str, ...] = Field(
        default=(),
        description=(
            "paths or URLs of files with a pair of words and its similarity per line, separated by tabs, such "
            "as WordSim-353; lines that begin with # are comments"
        ),
    )
    analogies: tuple[str, ...] = Field(
        default=(),
        description=(
            "paths or URLs of files with analogies, four words per line, such as questions-words.txt; lines that "
            "begin with a colon are titles of sections"
        ),
    )
    neighbors: tuple[str, ...] = Field(
        default=(),
        description="words whose nearest neighbors are shown; default: the most frequent ones",
    )
    num_frequent: int = Field(
        default=10, ge=0, description="number of the most frequent words, if `neighbors` names none"
    )
    num_neighbors: int = Field(default=8, ge=1, le=1000, description="neighbors of each word")


# No section: references to the environment are expanded in all entries of `suites` alike.
class HarnessSuite(TypedDict, total=False):
    """A task of lm-evaluation-harness or a group of them, by its name, and the data to ask it of."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    harness: Required[Annotated[str, Field(min_length=1)]]
    data: Required[Annotated[str, Field(min_length=1)]]
    name: Annotated[str, Field(min_length=1)]
    num_fewshot: Annotated[int, Field(ge=0, le=64)]
    max_items: Annotated[int, Field(ge=1)]
    filter: Annotated[str, Field(min_length=1)]
    license: Annotated[str, Field(min_length=1)]


def _suite_form(value: Any) -> str:
    return "task" if isinstance(value, dict) else "file"


SuiteEntry = Annotated[
    Annotated[str, Tag("file")] | Annotated[HarnessSuite, Tag("task")], Discriminator(_suite_form)
]


class EvaluateConfig(ConfigModel):
    """How much of the held-out text is scored, and how samples are drawn."""

    max_documents: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of held-out documents to score; null: no limit",
    )
    max_tokens: int = Field(
        default=200_000,
        ge=1,
        description=(
            "documents are taken in the order of a draw by id until this many tokens are reached; "
            "the others are dropped with the reason over_budget"
        ),
    )
    max_document_tokens: int = Field(
        default=8_192,
        ge=1,
        description="a longer document, such as a book, is scored up to this length",
    )
    max_masked_tokens: int = Field(
        default=2_000,
        ge=1,
        description=(
            "encoders: about as many of the scored tokens, drawn by document and position, are masked "
            "and predicted one at a time, each in a pass over its window"
        ),
    )
    num_samples: int = Field(default=6, ge=0, description="number of continuations to generate")
    prompt_tokens: int = Field(
        default=32, ge=1, description="tokens of a held-out document that a sample continues"
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="maximum number of tokens to generate for a sample"
    )
    temperature: float = Field(
        default=0.8,
        ge=0,
        description="divides the logits before sampling; 0 takes the most likely token",
    )
    top_k: int = Field(default=50, ge=1, description="sample among the k most likely tokens")
    baseline_max_tokens: int = Field(
        default=20_000_000,
        ge=1,
        description=(
            "maximum number of training tokens that the unigram and 3-gram baselines count (about "
            "100 bytes of memory each); of a larger split, a deterministic sample of documents"
        ),
    )
    suites: tuple[SuiteEntry, ...] = Field(
        default=(),
        description=(
            "suites of items, such as HellaSwag: paths or URLs of their YAML files, or tasks and groups of "
            "lm-evaluation-harness, `{harness: TASK, data: FOLDER}` with `name`, `num_fewshot`, `max_items`, `filter` and "
            "`license` if wanted; every model of `train` is scored on them, and the items are looked for in the training text"
        ),
    )
    memorization: MemorizationConfig | None = Field(
        default=None,
        description="how much of its training text every model of `train` repeats; null: not measured",
    )
    word_vectors: WordVectorsConfig = Field(
        default_factory=lambda: WordVectorsConfig.model_validate({})
    )
