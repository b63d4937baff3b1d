"""The recipe's ``dedup`` section."""

from pydantic import Field

from infra.config import Section


class DedupConfig(Section):
    """Which documents count as copies of one another.

    The defaults are FineWeb's (datatrove ``examples/fineweb.py``): word 5-grams and 14 bands of 8
    rows, which nominate a pair of Jaccard similarity 0.8 with probability 0.92 and one of 0.85 with
    0.99. What FineWeb's pipeline lacks is the verification: ``threshold`` is the exact similarity
    a nominated pair must reach.
    """

    ngram: int = Field(5, ge=1, le=50, description="words per shingle")
    bands: int = Field(14, ge=1, le=256, description="bands of the signature")
    rows: int = Field(8, ge=1, le=64, description="hash values per band")
    threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="least Jaccard similarity of the shingle sets of two near-duplicates",
    )
    seed: int = Field(
        1, ge=0, lt=2**32, description="seed of the permutations, as datasketch takes it"
    )
    bucket: int = Field(
        64,
        ge=2,
        le=10_000,
        description="members of a band's bucket up to which every pair is compared; in a larger "
        "one, each is compared with the first and with its neighbours in length",
    )
    neighbours: int = Field(
        8, ge=1, le=1_000, description="neighbours each member of a larger bucket is compared with"
    )

    @property
    def permutations(self) -> int:
        """Hash values of a signature."""
        return self.bands * self.rows
