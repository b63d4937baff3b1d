"""Two ways to walk the road without Prefect's help: doing a step, and asking what is there."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra.compute.processes import RunCancelled
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.removals.match import REMOVALS_PREFIX as REMOVALS
from tasks.tokenize.encode import InvalidTokenizerError

InputPaths = Mapping[str, Any]  # argument -> folder below the storage root, or a list of folders


@dataclass(frozen=True)
class StepResult:
    """What became of one step.

    Attributes:
        folder: the data set's folder below the storage root.
        seconds: how long this run took for it.
        cached: whether it was there already.
    """

    step: str
    source: str | None
    entry: str | None
    folder: str
    dataset: Dataset
    seconds: float
    cached: bool


@dataclass(frozen=True)
class PlannedStep:
    """A step as a plan sees it.

    Attributes:
        folder: where its data set is or will be; ``None`` while an input is not there yet.
        why: one short sentence.
    """

    step: str
    source: str | None
    entry: str | None
    folder: str | None
    dataset: Dataset | None
    why: str


class ResourcePool:
    """The machine's cores, lent to trainings and evaluations so that they run side by side if they fit."""

    def __init__(self, total: int) -> None:
        """All slots are free."""
        self.total = total
        self._free = total
        self._cancelled = False
        self._condition = threading.Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait for ``amount`` slots (at most all of them) and give them back afterwards.

        Raises:
            RunCancelled: if the run is being stopped.
        """
        count = min(amount, self.total)
        with self._condition:
            self._condition.wait_for(lambda: self._cancelled or self._free >= count)
            if self._cancelled:
                raise RunCancelled("the run is being stopped")
            self._free -= count
        try:
            yield
        finally:
            with self._condition:
                self._free += count
                self._condition.notify_all()

    def cancel(self) -> None:
        """Lend nothing more; whoever waits gives up."""
        with self._condition:
            self._cancelled = True
            self._condition.notify_all()


def resolve_inputs(
    ctx: Context, params: Mapping[str, Any], input_paths: InputPaths
) -> dict[str, Any]:
    """A step's arguments with folders replaced by the data sets in them."""
    opened = {
        name: [_open_input(ctx, item) for item in value]
        if isinstance(value, list)
        else _open_input(ctx, value)
        for name, value in input_paths.items()
    }
    return {**params, **opened}


def _open_input(ctx: Context, folder: str) -> Dataset:
    return open_dataset(ctx.storage.subdir(*folder.split("/")))


def execute_step(
    ctx: Context,
    step: Step,
    source: str | None,
    entry: str | None,
    params: Mapping[str, Any],
    input_paths: InputPaths,
) -> StepResult:
    """Make a step's data set, unless the store has it."""
    began = time.monotonic()
    inputs = resolve_inputs(ctx, params, input_paths)
    spec, dataset = step.lookup(ctx, **inputs)
    cached = dataset is not None
    if dataset is None:
        dataset = step.build(ctx, spec, **inputs)
    seconds = time.monotonic() - began
    return StepResult(step.name, source, entry, spec.folder, dataset, seconds, cached)


class Planner:
    """Walks the road asking only: what is there, what would be made, and why."""

    def __init__(self, ctx: Context) -> None:
        """Nothing is asked yet."""
        self._ctx = ctx
        self.steps: list[PlannedStep] = []

    @property
    def complete(self) -> bool:
        """Whether nothing would be made."""
        return all(step.dataset is not None for step in self.steps)

    def __call__(
        self,
        step: Step,
        *,
        source: str | None = None,
        entry: str | None = None,
        params: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
    ) -> PlannedStep:
        """Look at one step (``flows.dag.StepRunner``)."""
        planned = self._plan_step(step, source, entry, params or {}, inputs or {})
        self.steps.append(planned)
        return planned

    def _plan_step(
        self,
        step: Step,
        source: str | None,
        entry: str | None,
        params: Mapping[str, Any],
        planned_inputs: Mapping[str, Any],
    ) -> PlannedStep:
        handles = [
            item
            for value in planned_inputs.values()
            for item in (value if isinstance(value, list) else [value])
        ]
        missing = next((item for item in handles if item.dataset is None), None)
        if missing is not None:
            label = " ".join(filter(None, (missing.step, missing.source or missing.entry)))
            return PlannedStep(step.name, source, entry, None, None, f"after {label}")
        inputs = {
            name: [item.dataset for item in value] if isinstance(value, list) else value.dataset
            for name, value in planned_inputs.items()
        }
        try:
            spec, dataset = step.lookup(self._ctx, **params, **inputs)
        except InvalidTokenizerError as error:  # this machine's lack; the plan of all else stands
            return PlannedStep(step.name, source, entry, None, None, str(error))
        why = "committed" if dataset is not None else self._explain_change(spec)
        return PlannedStep(step.name, source, entry, spec.folder, dataset, why)

    def _explain_change(self, spec: Any) -> str:
        """What differs from the newest-looking data set of the same stage and source."""
        label = f"{spec.source or 'all'}-"
        folders = self._ctx.storage.list_folders(spec.stage.name)
        differences: list[list[str]] = []
        for folder in folders:
            if not folder.startswith(label) or len(folder) != len(label) + 16:
                continue
            try:
                other = open_dataset(self._ctx.storage.subdir(spec.stage.name, folder)).manifest
            except Exception:  # noqa: BLE001, S112 - a broken neighbour is no reason not to plan
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
            (gone, files), (gone_now, files_now) = (
                _split_removal_inputs(other.external_inputs),
                _split_removal_inputs(spec.external_inputs),
            )
            if gone != gone_now:
                changed.append("removals changed")
            before = [*(item["content"] for item in other.inputs), *files]
            if before != [*(item.content for item in spec.inputs), *files_now]:
                changed.append("input changed")
            differences.append(changed or ["input changed"])
        if not differences:
            return "never made"
        differences.sort(key=len)
        return " and ".join(differences[0])


def _split_removal_inputs(external_inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The entries of a data set's ``external_inputs`` that stand for removals, and the others."""
    gone = [item for item in external_inputs if item.startswith(REMOVALS)]
    return gone, [item for item in external_inputs if not item.startswith(REMOVALS)]
