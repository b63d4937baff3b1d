"""The recipe's `evaluate` section."""

from pydantic import Field

from infra.config import ConfigModel


class EvaluateConfig(ConfigModel):
    """How much of the held-out text is scored, and how samples are drawn."""

    max_documents: int | None = Field(
        default=None, ge=1, description="Held-out documents to score at most; null: no limit."
    )
    max_tokens: int = Field(
        default=200_000,
        ge=1,
        description=(
            "Documents are taken in the order of a draw by id until this many tokens are reached; "
            "the rest are drops with the reason over_budget."
        ),
    )
    max_document_tokens: int = Field(
        default=8_192,
        ge=1,
        description="A longer document, such as a book, is scored up to here.",
    )
    num_samples: int = Field(default=6, ge=0, description="Continuations to show.")
    prompt_tokens: int = Field(
        default=32, ge=1, description="Tokens of a held-out document that a sample continues."
    )
    max_new_tokens: int = Field(default=64, ge=1, description="Tokens to generate for a sample.")
    temperature: float = Field(
        default=0.8, ge=0, description="Divides the logits before sampling; 0 takes the likeliest."
    )
    top_k: int = Field(default=50, ge=1, description="Only the likeliest k tokens are sampled.")
    baseline_max_tokens: int = Field(
        default=20_000_000,
        ge=1,
        description=(
            "Training tokens that the unigram and 3-gram baselines count at most (about 50 bytes "
            "of memory each); beyond, a deterministic sample of documents."
        ),
    )
