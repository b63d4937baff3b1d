"""The recipe's section `baselines` of an entry of `finetune`."""

from typing import Annotated

from pydantic import Field, field_validator

from infra.config import ConfigModel

Fraction = Annotated[float, Field(gt=0, le=1)]


class BaselinesConfig(ConfigModel):
    """What the fine-tuned model is compared with, besides the task's own baselines."""

    from_scratch: bool = Field(
        True, description="train the same architecture from random weights, named NAME-scratch"
    )
    budgets: tuple[Fraction, ...] = Field(
        (1.0,),
        min_length=1,
        description=(
            "fractions of the training examples, a model each, for the learning curve; those below "
            "1 are named NAME-10pct and so on"
        ),
    )

    @field_validator("budgets")
    @classmethod
    def _check_budgets(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a budget is given twice")
        return value
