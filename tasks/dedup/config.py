"""The recipe's ``dedup`` section."""

from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from infra.config import ConfigModel
from infra.schemas.languages import Language
from infra.sizes import parse_size
from tasks.dedup.candidates.lsh_params import MAX_BANDS, choose_banding

ShingleUnit = Literal["words", "characters"]
Scope = Literal["global", "source", "segment", "language"]
# Settings that do not decide the labels: partitioning, limits, and how bands and rows were chosen.
OPERATIONAL = frozenset(
    {"partition_memory", "max_cluster", "max_bucket", "target_recall", "max_permutations"}
)


class ShinglingConfig(ConfigModel):
    """Shingles of the texts of one language."""

    ngram: int = Field(5, ge=1, le=50, description="words or characters per shingle")
    shingle_unit: ShingleUnit = Field("words", description="what a shingle is made of")


class DedupConfig(ConfigModel):
    """Which documents count as duplicates of each other.

    The defaults are FineWeb's (datatrove ``examples/fineweb.py``): word 5-grams and 14 bands of 8
    rows, which make a pair of Jaccard similarity 0.8 a candidate with probability 0.92 and one of
    0.85 with 0.99. Unlike FineWeb's pipeline, candidate pairs are verified: ``threshold`` is the
    similarity that a pair must reach.
    """

    ngram: int = Field(5, ge=1, le=50, description="words or characters per shingle")
    shingle_unit: ShingleUnit = Field(
        "words", description="what a shingle is made of; use characters for scripts without spaces"
    )
    languages: dict[Language, ShinglingConfig] = Field(
        default_factory=dict,
        description="other shingles for single languages, by the label that annotate assigns, "
        "such as {th: {shingle_unit: characters, ngram: 15}}",
    )
    bands: int = Field(14, ge=1, le=MAX_BANDS, description="bands of the signature")
    rows: int = Field(8, ge=1, le=64, description="hash values per band")
    threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="minimum Jaccard similarity of the shingle sets of two near-duplicates",
    )
    target_recall: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead of bands and rows: the probability that a pair at threshold becomes a "
        "candidate",
    )
    max_permutations: int = Field(
        256, ge=1, le=1024, description="maximum hash values per document for target_recall"
    )
    verification: Literal["exact", "signature"] = Field(
        "exact",
        description="how candidate pairs are compared: by their shingle sets, or by an estimate "
        "from their signatures, which reads no text again",
    )
    scope: Scope = Field(
        "global",
        description="where duplicates are searched for: everywhere, or within one of these",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="seed of the permutations, as in datasketch")
    keep_signatures: bool = Field(
        False,
        description="also store the full signatures (4 bytes per hash value), for other tools",
    )
    exhaustive_bucket_size: int = Field(
        64,
        ge=2,
        le=10_000,
        description="members of a band's bucket up to which every pair is compared; in a larger one "
        "each is compared with the first and with those of the most similar signatures",
    )
    neighbors: int = Field(
        8, ge=1, le=1_000, description="how many those are, and neighbors in a larger cluster"
    )
    exhaustive_cluster_size: int = Field(
        500,
        ge=2,
        le=10_000,
        description="members of a cluster up to which every pair of them is compared; in a larger "
        "one each is compared with those most likely to survive and with its neighbors in length",
    )
    max_cluster: int = Field(
        100_000, ge=2, description="maximum documents of a cluster; beyond it the run stops"
    )
    max_bucket: int = Field(
        1_000_000, ge=2, description="maximum members of a band's bucket; beyond it the run stops"
    )
    partition_memory: str = Field(
        "512MiB", description="memory that a worker may use for one partition"
    )

    @field_validator("partition_memory")
    @classmethod
    def _validate_size(cls, value: str) -> str:
        try:
            size = parse_size(value)
        except ValidationError:
            size = 0
        if size < 1:
            raise ValueError(f"{value!r} is not a size; write it like 512MiB")
        return value

    @model_validator(mode="after")
    def _check_banding(self) -> Self:
        if self.target_recall is not None:
            if {"bands", "rows"} & self.model_fields_set:
                raise ValueError("give bands and rows, or target_recall, not both")
            choose_banding(self.threshold, self.target_recall, self.max_permutations)
        return self

    @property
    def needs_languages(self) -> bool:
        """Whether the languages of the annotations decide what is compared, or how."""
        return self.scope == "language" or bool(self.languages)

    def shingling(self, language: str | None) -> ShinglingConfig:
        """Return the shingles of texts of this language."""
        return self.languages.get(
            language or "", ShinglingConfig(ngram=self.ngram, shingle_unit=self.shingle_unit)
        )

    @property
    def banding(self) -> tuple[int, int]:
        """Bands, and rows per band."""
        if self.target_recall is None:
            return self.bands, self.rows
        return choose_banding(self.threshold, self.target_recall, self.max_permutations)

    @property
    def num_permutations(self) -> int:
        """Hash values of a signature."""
        bands, rows = self.banding
        return bands * rows

    @property
    def partition_bytes(self) -> int:
        """``partition_memory`` in bytes."""
        return parse_size(self.partition_memory)

    def to_json(self) -> dict[str, object]:
        """Return the settings that decide the labels; see `OPERATIONAL` for the others."""
        bands, rows = self.banding
        facts = {key: value for key, value in super().to_json().items() if key not in OPERATIONAL}
        return {**facts, "bands": bands, "rows": rows}
