"""The recipe's `extract` section."""

from typing import Literal

from pydantic import Field

from infra.config import ConfigModel


class ExtractConfig(ConfigModel):
    """How the text of a page is extracted."""

    engine: Literal["trafilatura", "resiliparse"] = Field(
        default="trafilatura",
        description=(
            "trafilatura keeps the article and little else; resiliparse is about ten times as "
            "fast and keeps more of what surrounds it"
        ),
    )
    max_bytes: int = Field(
        default=5_000_000,
        ge=1,
        description="a longer page fails as too_large before it is parsed",
    )
    max_cpu_seconds: float = Field(
        default=30.0,
        gt=0,
        description=(
            "seconds of processor time for one page; a page that needs more fails as timeout. "
            "Time spent waiting does not count, so a busy machine loses no page"
        ),
    )
    max_memory: int = Field(
        default=2_000_000_000,
        ge=300_000_000,
        description="bytes of address space for the extraction process; a page that needs more fails as memory",
    )
