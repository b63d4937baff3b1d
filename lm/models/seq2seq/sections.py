"""The sizes of an encoder-decoder: as the recipe gives them, and with all defaults resolved."""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from lm.config.model import ModelSection


@dataclass(frozen=True)
class Seq2SeqConfig:
    """Everything that fixes an encoder-decoder's parameters, its function and its objective.

    Attributes:
        vocab_size: V, the ids of the text and, after them, the sentinels.
        num_layers: L, number of blocks of the encoder, and of the decoder.
        hidden_size: D.
        context_length: tokens of text in a row.
        tie_embeddings: whether the head is the embedding.
        architecture: the package of ``lm.models.seq2seq`` that holds the model's class.
        num_noise_tokens: tokens of a row that are cut out.
        num_sentinels: number of spans that they make up.
        prefix_fraction: fraction of the rows that are continued instead.
        num_heads: H (T5).
        ffn_size: F (T5).
        norm_eps: added under a norm's root (T5).
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    context_length: int
    tie_embeddings: bool
    architecture: str
    num_noise_tokens: int
    num_sentinels: int
    prefix_fraction: float
    num_heads: int = 1
    ffn_size: int = 0
    norm_eps: float = 1e-6

    @property
    def first_sentinel(self) -> int:
        """The id of the first sentinel."""
        return self.vocab_size - self.num_sentinels

    @property
    def source_length(self) -> int:
        """S: what is left of a row, a sentinel per span, and the end of text."""
        return self.context_length - self.num_noise_tokens + self.num_sentinels + 1

    @property
    def target_length(self) -> int:
        """T: the spans, a sentinel for each, and the end of text."""
        return self.num_noise_tokens + self.num_sentinels + 1


class Seq2SeqSection(ModelSection):
    """The settings that all encoder-decoders have: the base of each architecture's `model` section."""

    num_layers: int = Field(ge=1, description="number of layers of the encoder, and of the decoder")
    context_length: int = Field(
        256, ge=8, description="tokens of text in a row, of which spans are cut out"
    )
    noise_density: float = Field(
        0.15,
        gt=0,
        le=0.5,
        description="fraction of the tokens that is cut out (Raffel et al. 2020, section 3.3.4)",
    )
    mean_span_length: float = Field(
        3.0, ge=1, description="mean number of tokens of a span (Raffel et al. 2020, section 3.3.4)"
    )
    prefix_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "fraction of the rows of which no spans are cut out: the decoder continues a prefix, as it "
            "does in evaluation and generation (Tay et al. 2023, arXiv:2205.05131); 0: T5's objective"
        ),
    )

    def resolve_with(self, vocab_size: int, **defaults: Any) -> Seq2SeqConfig:
        """Return the architecture of a model of this vocabulary and the sentinels of a row's spans."""
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        density, span = given.pop("noise_density"), given.pop("mean_span_length")
        noise = max(1, round(self.context_length * density))
        spans = max(1, min(round(noise / span), noise, self.context_length - noise))
        return Seq2SeqConfig(
            vocab_size=vocab_size + spans,
            num_noise_tokens=noise,
            num_sentinels=spans,
            **{**defaults, **given},
        )

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary, as in ``config.json``."""
        left_out = ("vocab_size", "context_length", "num_noise_tokens", "prefix_fraction")
        return {k: v for k, v in asdict(self.resolve(0)).items() if k not in left_out}
