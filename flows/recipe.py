"""The recipe: the model of the YAML file, and what its sections require of each other."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)

from flows.ablate_config import BASELINE, AblateConfig, VariantConfig
from flows.depth import fill_in_depth, forget_derived
from flows.overrides import set_field
from flows.renamed_keys import find_renamed_keys
from flows.schedule_config import BudgetConfig, RetrainConfig, ScheduleConfig
from infra.compute.cluster_config import ClusterConfig
from infra.config import ConfigModel
from infra.store.writable import check_store_url
from lm.config.entry import TrainEntry
from lm.config.train import TrainConfig
from lm.models.registry import AnyEntry
from tasks.acquire.config import AnySource
from tasks.annotate.config import AnnotateConfig
from tasks.dedup.config import DedupConfig
from tasks.evaluate.config import EvaluateConfig, SuiteEntry
from tasks.extract.config import ExtractConfig
from tasks.finetune.config import AnyFinetuneEntry, Seq2SeqTaskEntry, TextEntry
from tasks.index.config import IndexConfig
from tasks.release.config import ReleaseConfig
from tasks.select.config import SelectConfig
from tasks.tokenize.config import TokenizeConfig

# A string, so that pydantic uses its own engine: Python's `$` also matches before a final newline.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class Recipe(ConfigModel):
    """Everything that a run depends on, except the raw bytes of its sources."""

    name: Name = Field(description="names the run's records and report")
    storage: Annotated[str, AfterValidator(check_store_url)] = Field(
        "./data", description="root of the store: a folder, or a URL such as s3://bucket/prefix"
    )
    seed: int = Field(1337, ge=0, lt=2**63, description="the only source of randomness")
    cluster: ClusterConfig = Field(default_factory=lambda: ClusterConfig.model_validate({}))
    sources: tuple[AnySource, ...] = Field(min_length=1, description="where documents come from")
    extract: ExtractConfig = Field(default_factory=ExtractConfig)
    annotate: AnnotateConfig = Field(default_factory=AnnotateConfig)
    dedup: DedupConfig = Field(default_factory=DedupConfig)
    select: SelectConfig = Field(default_factory=SelectConfig)
    tokenize: TokenizeConfig = Field(default_factory=TokenizeConfig)
    index: IndexConfig = Field(default_factory=lambda: IndexConfig.model_validate({}))
    train: tuple[AnyEntry, ...] = Field(
        (), description="models to train, each evaluated separately; optional"
    )
    evaluate: EvaluateConfig | None = Field(
        None, description="how models are evaluated; without it they are not"
    )
    finetune: tuple[AnyFinetuneEntry, ...] = Field(
        (), description="tasks that models are fine-tuned for; optional"
    )
    release: ReleaseConfig | None = Field(
        None,
        description="gates and the registry; without it models are exported, but not registered",
    )

    ablate: AblateConfig | None = Field(
        None, description="variants of the corpus that `gristmill ablate` compares; optional"
    )
    schedule: ScheduleConfig = Field(default_factory=lambda: ScheduleConfig.model_validate({}))
    retrain: RetrainConfig = Field(default_factory=lambda: RetrainConfig.model_validate({}))
    budget: BudgetConfig = Field(default_factory=lambda: BudgetConfig.model_validate({}))

    @property
    def models(self) -> tuple[TrainEntry, ...]:
        """The models to make, an entry each: those of ``train``, one for each of its ``seeds``."""
        return tuple(model for entry in self.train for model in entry.expand())

    @property
    def suites(self) -> tuple[SuiteEntry, ...]:
        """The suites that models are scored on."""
        return self.evaluate.suites if self.evaluate is not None else ()

    @property
    def registered_models(self) -> tuple[str, ...]:
        """Names of the models that are gated and registered."""
        if self.release is None:
            return ()
        if self.release.models is not None:
            return self.release.models
        return tuple(model.name for model in self.models)

    def formats_of(self, model: str) -> tuple[str, ...]:
        """Return what a model is released as beside safetensors."""
        formats = self.release.formats if self.release is not None else ()
        return formats if model in self.registered_models else ()

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed_keys(cls, value: Any) -> Any:
        renamed = list(find_renamed_keys(value)) if isinstance(value, dict) else []
        if renamed:
            raise ValueError("; ".join(renamed))
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _derive_from_depth(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        recipe = handler(fill_in_depth(value))
        for raw, entry in zip(value.get("train") or (), recipe.train, strict=True):
            forget_derived(raw, entry)
        return recipe

    @model_validator(mode="after")
    def _check_entries(self) -> Self:
        models = self.models
        for section, names in (
            ("sources", [source.name for source in self.sources]),
            ("train", [entry.name for entry in self.train]),
            ("train", [model.name for model in models]),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"two entries of {section} are named {repeated[0]!r}")
        sources = [source.name for source in self.sources]
        in_steps = [model for model in models if isinstance(model, TrainConfig)]
        for entry in in_steps:
            for name in entry.data.mixture or ():
                if name not in sources:
                    raise ValueError(
                        f"train.{entry.name}.data.mixture.{name}: no source has this name; sources: "
                        f"{', '.join(sorted(sources))}"
                    )
        self._check_finetune()
        self._check_ablate()
        for index, entry in enumerate(in_steps):
            if entry.init_from is not None:
                self._check_init_from(entry, in_steps[:index])
        scored = any(entry.gives_probability for entry in self.train)
        if scored and self.evaluate is not None and not self.tokenize.validation_fraction:
            raise ValueError(
                "evaluate needs held-out documents: set tokenize.validation_fraction above 0"
            )
        for entry in in_steps:
            if entry.optim.early_stopping_patience and not self.tokenize.validation_fraction:
                raise ValueError(
                    f"train.{entry.name}.optim.early_stopping_patience needs held-out documents: set "
                    "tokenize.validation_fraction above 0"
                )
        return self

    @property
    def run_names(self) -> tuple[str, ...]:
        """The names of all recipes whose runs belong to this one: its own and those of its variants."""
        variants = (BASELINE, *(item.name for item in self.ablate.variants)) if self.ablate else ()
        return (self.name, *map(self._variant_name, variants))

    def _variant_name(self, variant: str) -> str:
        return f"{self.name}.{variant}"

    @property
    def variants(self) -> dict[str, "Recipe"]:
        """The recipes that ``ablate`` compares, by the name of the variant; the first is this one's.

        Each trains the model to compare with all seeds, and what it starts from.
        """
        assert self.ablate is not None
        return {
            variant.name if variant else BASELINE: self._variant(self.ablate, variant)
            for variant in (None, *self.ablate.variants)
        }

    def _variant(self, ablate: AblateConfig, variant: VariantConfig | None) -> "Recipe":
        value = self.to_record()
        value |= {"ablate": None, "schedule": {}}
        value["name"] = self._variant_name(variant.name if variant else BASELINE)
        for path, new in (variant.to_record()["set"] if variant else {}).items():
            set_field(value, path, new)
        entries = {entry["name"]: entry for entry in value["train"]}
        chosen = [{**entries[ablate.model], "seed": None, "seeds": list(ablate.seeds)}]
        while (base := chosen[0].get("init_from")) is not None:
            chosen.insert(0, entries[base])
        value["train"], value["finetune"], value["release"] = chosen, [], None
        return Recipe.model_validate(value)

    def _check_ablate(self) -> None:
        """Raise ``ValueError`` unless every variant of `ablate` is a recipe whose models can be compared."""
        if self.ablate is None:
            return
        entry = next((entry for entry in self.train if entry.name == self.ablate.model), None)
        if entry is None:
            names = ", ".join(entry.name for entry in self.train) or "none"
            raise ValueError(
                f"ablate.model: {self.ablate.model!r} is not an entry of train; entries: {names}"
            )
        if not isinstance(entry, TrainConfig) or not entry.gives_probability:
            raise ValueError(
                f"ablate.model: {entry.name} is of family {entry.family}, which has no seeds to compare"
            )
        if self.evaluate is None:
            raise ValueError("ablate needs the section evaluate, by which models are compared")
        for variant in self.ablate.variants:
            where = f"ablate.variants.{variant.name}.set"
            try:
                self._variant(self.ablate, variant)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                is_unknown = first["type"] == "extra_forbidden"
                message = (
                    "unknown key" if is_unknown else first["msg"].removeprefix("Value error, ")
                )
                field = ".".join(map(str, first["loc"]))
                raise ValueError(": ".join(filter(None, (where, field, message)))) from None
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None

    def _check_finetune(self) -> None:
        """Raise ``ValueError`` unless every entry of `finetune` has a base that can do its task."""
        bases = {model.name: model for model in self.models}
        names = [*bases]
        for index, entry in enumerate(self.finetune):
            if isinstance(entry, Seq2SeqTaskEntry):
                entry.check_translator(self.finetune[:index])
            if isinstance(entry, TextEntry) and entry.suites and not self.suites:
                raise ValueError(
                    f"finetune.{entry.name}.suites: evaluate.suites names no suite to score it on"
                )
            if entry.base_folder is None:
                base = bases.get(entry.base)
                if base is None:
                    raise ValueError(
                        f"finetune.{entry.name}.base: {entry.base!r} is not a model of train; models: "
                        f"{', '.join(bases) or 'none'}. The folder of a released model has a / in it: "
                        f"./{entry.base}"
                    )
                entry.check_base(base)
            names += {entry.name, *(variant.name for variant in entry.expand())}
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two models of train and finetune are named {repeated[0]!r}")
        self._check_release(names)

    def _check_release(self, names: Sequence[str]) -> None:
        """Raise ``ValueError`` unless the models to register exist and are measured."""
        if self.release is None:
            return
        for name in self.registered_models:
            if name not in names:
                raise ValueError(
                    f"release.models: {name!r} is not a model of train or finetune; models: "
                    f"{', '.join(names) or 'none'}"
                )
        trained = {model.name for model in self.models} & set(self.registered_models)
        tuned = sorted(set(self.registered_models) - trained)
        if self.release.formats and tuned:
            raise ValueError(
                f"release.formats: {tuned[0]} is a model of finetune, which has no other formats: leave it out of "
                "release.models"
            )
        if self.release.gates and trained and self.evaluate is None:
            raise ValueError(
                f"release.gates: {min(trained)} has no metrics: add `evaluate: {{}}` to the recipe"
            )

    @staticmethod
    def _check_init_from(entry: TrainConfig, earlier: Sequence[TrainConfig]) -> None:
        """Raise ``ValueError`` unless the entry can start from the weights of an earlier one."""
        base = next((other for other in earlier if other.name == entry.init_from), None)
        if base is None:
            names = ", ".join(other.name for other in earlier) or "none"
            raise ValueError(
                f"train.{entry.name}.init_from: {entry.init_from!r} is not an earlier entry "
                f"of train; earlier entries: {names}"
            )
        if entry.package != base.package:
            raise ValueError(
                f"train.{entry.name}.init_from: {entry.name} is of {entry.package}, but {base.name}, "
                f"whose weights it starts from, of {base.package}"
            )
        own, others = entry.model.architecture_key(), base.model.architecture_key()
        for name, value in own.items():
            if others.get(name) != value:
                raise ValueError(
                    f"train.{entry.name}.model.{name}: {value!r}, but {base.name}, whose weights it "
                    f"starts from, has {others.get(name)!r}"
                )
