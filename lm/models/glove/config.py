"""The entry of the recipe's `train` list for GloVe."""

from typing import ClassVar, Literal

from pydantic import Field

from infra.config import ConfigModel
from lm.config.entry import SeededEntry
from lm.models.embedding.sections import EmbeddingSection


class GloveConfig(EmbeddingSection):
    """Which words get a vector, and which of them co-occur."""

    window: int = Field(
        10,
        ge=1,
        le=1000,
        description=(
            "maximum distance of two words that co-occur; a pair at distance d counts 1 / d (Pennington et al. "
            "2014, section 4.2: 10 on either side)"
        ),
    )


class GloveOptim(ConfigModel):
    """The weight of a cell, and AdaGrad's settings; defaults of Pennington et al. 2014, section 4.2."""

    x_max: float = Field(
        100.0,
        gt=0,
        description="a cell with a smaller count x has the weight (x / x_max) ** alpha, others 1",
    )
    alpha: float = Field(0.75, ge=0, le=1, description="see x_max")
    lr: float = Field(0.05, gt=0, description="AdaGrad's learning rate")
    epochs: int = Field(
        50, ge=1, description="passes over the cells (50 for vectors of less than 300 values)"
    )


class GloveEntry(SeededEntry):
    """Word vectors whose products are the logarithms of co-occurrence counts (Pennington et al. 2014).

    They give no probability to a text.
    """

    family: Literal["glove"] = Field(description="the family of the model")
    model: GloveConfig = Field(default_factory=lambda: GloveConfig.model_validate({}))
    optim: GloveOptim = Field(default_factory=lambda: GloveOptim.model_validate({}))

    gives_probability: ClassVar[bool] = False
