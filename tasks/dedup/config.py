"""The recipe's ``dedup`` section."""

from typing import Literal, Self

from pydantic import ByteSize, Field, TypeAdapter, ValidationError, field_validator, model_validator

from infra.config import ConfigModel
from infra.schemas.languages import Language
from tasks.dedup.candidates.lsh_params import MAX_BANDS, choose_banding

ShingleUnit = Literal["words", "characters"]
Scope = Literal["global", "source", "segment", "language"]
# How the work is cut, when it is stopped, and how bands and rows came about decides nothing.
OPERATIONAL = frozenset(
    {"partition_memory", "max_cluster", "max_bucket", "target_recall", "max_permutations"}
)
_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


class ShinglingConfig(ConfigModel):
    """What the texts of one language are compared by."""

    ngram: int = Field(5, ge=1, le=50, description="words or characters per shingle")
    shingle_unit: ShingleUnit = Field("words", description="what a shingle is made of")


class DedupConfig(ConfigModel):
    """Which documents count as copies of one another.

    The defaults are FineWeb's (datatrove ``examples/fineweb.py``): word 5-grams and 14 bands of 8
    rows, which nominate a pair of Jaccard similarity 0.8 with probability 0.92 and one of 0.85 with
    0.99. What FineWeb's pipeline lacks is the verification: ``threshold`` is the exact similarity
    a nominated pair must reach.
    """

    ngram: int = Field(5, ge=1, le=50, description="words or characters per shingle")
    shingle_unit: ShingleUnit = Field(
        "words", description="what a shingle is made of; characters for scripts without spaces"
    )
    languages: dict[Language, ShinglingConfig] = Field(
        default_factory=dict,
        description="what is different for single languages, by the label that annotate gives, "
        "such as {th: {shingle_unit: characters, ngram: 15}}",
    )
    bands: int = Field(14, ge=1, le=MAX_BANDS, description="bands of the signature")
    rows: int = Field(8, ge=1, le=64, description="hash values per band")
    threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="least Jaccard similarity of the shingle sets of two near-duplicates",
    )
    target_recall: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead of bands and rows: the probability with which a pair at threshold is "
        "to be nominated",
    )
    max_permutations: int = Field(
        256, ge=1, le=1024, description="hash values per document that target_recall may use"
    )
    verification: Literal["exact", "signature"] = Field(
        "exact",
        description="how nominated pairs are compared: by their shingle sets, or by an estimate "
        "from their signatures that never reads a text again",
    )
    scope: Scope = Field(
        "global", description="where copies are looked for: everywhere, or within one of these"
    )
    seed: int = Field(
        1, ge=0, lt=2**32, description="seed of the permutations, as datasketch takes it"
    )
    keep_signatures: bool = Field(
        False,
        description="store the whole signatures too (4 bytes per hash value), for other tools",
    )
    exhaustive_bucket_size: int = Field(
        64,
        ge=2,
        le=10_000,
        description="members of a band's bucket up to which every pair is compared; in a larger "
        "one, each is compared with the first and with those whose signatures are most like its own",
    )
    neighbors: int = Field(
        8, ge=1, le=1_000, description="how many those are, and neighbours in a larger cluster"
    )
    exhaustive_cluster_size: int = Field(
        500,
        ge=2,
        le=10_000,
        description="members of a cluster up to which every pair of them is compared; in a larger "
        "one, each is compared with those most likely to stay and with its neighbours in length",
    )
    max_cluster: int = Field(
        100_000, ge=2, description="documents of a cluster beyond which the run stops"
    )
    max_bucket: int = Field(
        1_000_000, ge=2, description="members of a band's bucket beyond which the run stops"
    )
    partition_memory: str = Field(
        "512MiB", description="memory that a worker may fill with one partition of the join"
    )

    @field_validator("partition_memory")
    @classmethod
    def _validate_size(cls, value: str) -> str:
        try:
            size = int(_SIZE.validate_python(value))
        except ValidationError:
            size = 0
        if size < 1:
            raise ValueError(f"{value!r} is not a size such as 512MiB")
        return value

    @model_validator(mode="after")
    def _check_banding(self) -> Self:
        if self.target_recall is not None:
            if {"bands", "rows"} & self.model_fields_set:
                raise ValueError(
                    "give bands and rows, or the target_recall wanted at threshold, not both"
                )
            choose_banding(self.threshold, self.target_recall, self.max_permutations)
        return self

    @property
    def needs_languages(self) -> bool:
        """Whether annotations decide what is compared with what, or by what."""
        return self.scope == "language" or bool(self.languages)

    def shingling(self, language: str | None) -> ShinglingConfig:
        """What a text of this language is compared by."""
        return self.languages.get(
            language or "", ShinglingConfig(ngram=self.ngram, shingle_unit=self.shingle_unit)
        )

    @property
    def banding(self) -> tuple[int, int]:
        """Bands, and rows of each."""
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
        return int(_SIZE.validate_python(self.partition_memory))

    def to_json(self) -> dict[str, object]:
        """What decides the marks; how the work is cut, and how bands were chosen, does not."""
        bands, rows = self.banding
        facts = {key: value for key, value in super().to_json().items() if key not in OPERATIONAL}
        return {**facts, "bands": bands, "rows": rows}
