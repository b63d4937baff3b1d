"""What a run would do: which data sets exist, which would be made, and why."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from flows.dag import Bind, build_pipeline
from flows.recipe import Recipe
from flows.steps import StageName
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import FINGERPRINT_CHARS
from infra.dataset.stage import Context, DatasetSpec
from infra.dataset.step import Step
from infra.removals.log import load_removals
from infra.removals.match import REMOVALS_PREFIX
from infra.store.storage import Storage
from lm.config.loop import RunsOnThisMachine
from tasks.tokenize.encode import InvalidTokenizerError


@dataclass(frozen=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        folder: where its data set is or will be; ``None`` while an input does not exist yet.
        dataset: the committed data set.
        why: one short sentence.
    """

    stage: str
    source: str | None
    entry: str | None
    folder: str | None
    dataset: Dataset | None
    why: str


class Planner:
    """Looks up every step in the store and makes nothing."""

    def __init__(self, ctx: Context) -> None:
        """Start with an empty plan."""
        self._ctx = ctx
        self.steps: list[PlannedStep] = []

    @property
    def complete(self) -> bool:
        """Whether nothing would be made."""
        return all(step.dataset is not None for step in self.steps)

    def __call__(
        self,
        step: Step[...],
        inputs: Sequence[PlannedStep],
        bind: Bind[PlannedStep],
        *,
        source: str | None = None,
        entry: str | None = None,
        training: RunsOnThisMachine | None = None,  # noqa: ARG002 - a plan reserves nothing
    ) -> PlannedStep:
        """Plan one step (``flows.dag.StepRunner``)."""
        folder, dataset, why = self._lookup(inputs, bind)
        planned = PlannedStep(step.name, source, entry, folder, dataset, why)
        self.steps.append(planned)
        return planned

    def _lookup(
        self, inputs: Sequence[PlannedStep], bind: Bind[PlannedStep]
    ) -> tuple[str | None, Dataset | None, str]:
        missing = next((item for item in inputs if item.dataset is None), None)
        if missing is not None:
            label = " ".join(filter(None, (missing.stage, missing.source or missing.entry)))
            return None, None, f"after {label}"
        try:
            spec, dataset = bind(_planned_dataset).lookup(self._ctx)
        except InvalidTokenizerError as error:  # a fault of this machine; plan all other steps
            return None, None, str(error)
        why = "committed" if dataset is not None else self._explain_change(spec)
        return spec.folder, dataset, why

    def _explain_change(self, spec: DatasetSpec) -> str:
        """Say what differs from the most similar data set of the same stage and source."""
        prefix = f"{spec.source or 'all'}-"
        length = len(prefix) + FINGERPRINT_CHARS
        differences: list[list[str]] = []
        for folder in self._ctx.storage.list_folders(spec.stage.name):
            if not folder.startswith(prefix) or len(folder) != length:
                continue
            try:
                other = open_dataset(self._ctx.storage.subdir(spec.stage.name, folder)).manifest
            except Exception:  # noqa: BLE001, S112 - a damaged neighbor is no reason not to plan
                continue
            changed = []
            if other.config != spec.config:
                keys = sorted(
                    key
                    for key in {*other.config, *spec.config}
                    if other.config.get(key) != spec.config.get(key)
                )
                changed.append(f"configuration changed ({', '.join(keys)})")
            if other.code_version != spec.stage.code_version:
                changed.append("code changed")
            (removals_before, files_before), (removals, files) = (
                _split_removal_inputs(other.external_inputs),
                _split_removal_inputs(spec.external_inputs),
            )
            if removals_before != removals:
                changed.append("removals changed")
            inputs_before = [*(item["content"] for item in other.inputs), *files_before]
            if inputs_before != [*(item.content for item in spec.inputs), *files]:
                changed.append("input changed")
            differences.append(changed or ["input changed"])
        if not differences:
            return "never made"
        differences.sort(key=len)
        return " and ".join(differences[0])


# The plan of the run that this process has been started for.
PLAN: ContextVar[Planner | None] = ContextVar("PLAN", default=None)


def plan_pipeline(
    recipe: Recipe,
    until: StageName,
    start: datetime | None = None,
    segments: Mapping[str, Dataset] = MappingProxyType({}),
) -> Planner:
    """Plan a run that starts at a time, by default now; reads the store and the sources' files.

    Args:
        recipe: what to make.
        until: the last stage.
        start: when the run starts.
        segments: as for ``build_pipeline``.
    """
    inline = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    storage = Storage(recipe.storage)
    ctx = Context(
        storage, recipe.seed, inline, NullReporter(), recipe.name, "", start or datetime.now(UTC)
    )
    planner = Planner(ctx)
    build_pipeline(planner, recipe, until, load_removals(storage, recipe.name), segments)
    return planner


def _planned_dataset(step: PlannedStep) -> Dataset:
    assert step.dataset is not None
    return step.dataset


def _split_removal_inputs(external_inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a data set's ``external_inputs`` into removals and everything else."""
    removals = [item for item in external_inputs if item.startswith(REMOVALS_PREFIX)]
    return removals, [item for item in external_inputs if not item.startswith(REMOVALS_PREFIX)]
