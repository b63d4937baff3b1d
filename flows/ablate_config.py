"""The recipe's section `ablate`: what else the corpus might be made of, to be judged by the models trained on it."""

from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from infra.config import ConfigModel
from lm.config.entry import Seed

BASELINE = "baseline"  # the recipe as it is
# What all variants share: where they run, what they are measured by, and what no model depends on.
SHARED_SECTIONS = (
    "name",
    "storage",
    "seed",
    "cluster",
    "evaluate",
    "schedule",
    "retrain",
    "ablate",
)

VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]


class VariantConfig(ConfigModel):
    """The recipe with some fields changed."""

    name: VariantName = Field(description="names the variant")
    changes: dict[str, Any] = Field(
        alias="set",
        min_length=1,
        description=(
            "fields with their other values, such as `select.quality_filters: []`; entries of lists are "
            "chosen by name, as in `sources.books.license`"
        ),
    )

    @model_validator(mode="after")
    def _check_sections(self) -> Self:
        if self.name == BASELINE:
            raise ValueError(f"name: {BASELINE} is the recipe as it is; choose another name")
        for path in self.changes:
            section = path.partition(".")[0]
            if section in SHARED_SECTIONS:
                raise ValueError(
                    f"set: {path}: {section} is the same for all variants, so that their models can be compared"
                )
        return self


class AblateConfig(ConfigModel):
    """Variants of the corpus, each judged by models with several seeds (`gristmill ablate`)."""

    model: str = Field(description="name of the entry of `train` that is trained on each variant")
    seeds: tuple[Seed, ...] = Field(
        (1, 2, 3),
        min_length=2,
        description="a model with each of these seeds is trained on each variant",
    )
    variants: tuple[VariantConfig, ...] = Field(
        min_length=1, description="what the recipe as it is is compared with"
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [variant.name for variant in self.variants]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"variants: two are named {repeated[0]!r}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is given twice; the two models would be the same")
        return self
