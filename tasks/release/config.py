"""The recipe's `release` section."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.config import ConfigModel
from lm.metrics.conditions import ConditionError, parse_condition


def _check_condition(text: str) -> str:
    try:
        parse_condition(text)
    except ConditionError as error:
        raise ValueError(str(error)) from None
    return text


GateText = Annotated[str, AfterValidator(_check_condition)]


class ReleaseConfig(ConfigModel):
    """Which models are registered, and what they have to reach for it."""

    models: tuple[str, ...] | None = Field(
        default=None,
        description="names of the models that are gated and registered, of train or finetune; null: all of train",
    )
    gates: tuple[GateText, ...] = Field(
        default=(),
        description=(
            "conditions that a model must meet, such as `bits_per_byte <= champion * 1.005`, "
            "`suite.cloze.accuracy not worse`, `removal.debts none`; without one, every model passes"
        ),
    )
    formats: tuple[Literal["gguf", "onnx", "int8"], ...] = Field(
        default=(),
        description=(
            "what the registered models are released as beside safetensors: `gguf`, for llama.cpp; `onnx`, for "
            "onnxruntime; `int8`, the same with products of matrices in int8, which costs some bits per byte"
        ),
    )
    on_pass: Literal["promote", "hold"] = Field(
        default="promote",
        description=(
            "what becomes of a model that meets all gates: `promote` makes it the champion, `hold` leaves that "
            "to a person"
        ),
    )
    hold_timeout_s: float = Field(
        default=86_400.0,
        gt=0,
        description=(
            "`on_pass: hold` in a run of a deployment: seconds that the run is paused for the decision in "
            "Prefect's form; then it ends as failed, and the model waits for `gristmill models promote`"
        ),
    )
    carbon_g_per_kwh: float | None = Field(
        default=None,
        ge=0,
        description="grams of CO2 per kWh where models are trained, for the model card",
    )
    price_per_kwh: float | None = Field(
        default=None, ge=0, description="price of a kWh, for the model card; in your currency"
    )
    mlflow_registry_uri: str | None = Field(
        default=None,
        description=(
            "URI of an MLflow registry that versions and aliases are mirrored to, such as "
            "sqlite:////srv/mlflow.db or http://mlflow:5000"
        ),
    )
