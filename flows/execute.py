"""Two ways to walk the road without Prefect's help: doing a step, and asking what is there."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra.compute.processes import Stopped
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.removals.match import PREFIX as REMOVALS
from tasks.tokenize.encode import BadTokenizer

Folders = Mapping[str, Any]  # argument -> folder below the storage root, or a list of folders


@dataclass(frozen=True)
class Result:
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
class Planned:
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


class Slots:
    """The machine's cores, lent to trainings and evaluations so that they run side by side if they fit."""

    def __init__(self, total: int) -> None:
        """All slots are free."""
        self.total = total
        self._free = total
        self._stopped = False
        self._change = threading.Condition()

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        """Wait for ``wanted`` slots (at most all of them) and give them back afterwards.

        Raises:
            Stopped: if the run is being stopped.
        """
        count = min(wanted, self.total)
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._free >= count)
            if self._stopped:
                raise Stopped("the run is being stopped")
            self._free -= count
        try:
            yield
        finally:
            with self._change:
                self._free += count
                self._change.notify_all()

    def stop(self) -> None:
        """Lend nothing more; whoever waits gives up."""
        with self._change:
            self._stopped = True
            self._change.notify_all()


def arguments(ctx: Context, settings: Mapping[str, Any], data: Folders) -> dict[str, Any]:
    """A step's arguments with folders replaced by the data sets in them."""
    opened = {
        name: [_open(ctx, item) for item in value] if isinstance(value, list) else _open(ctx, value)
        for name, value in data.items()
    }
    return {**settings, **opened}


def _open(ctx: Context, folder: str) -> Dataset:
    return open_dataset(ctx.storage.at(*folder.split("/")))


def perform(
    ctx: Context,
    step: Step,
    source: str | None,
    entry: str | None,
    settings: Mapping[str, Any],
    data: Folders,
) -> Result:
    """Make a step's data set, unless the store has it."""
    began = time.monotonic()
    inputs = arguments(ctx, settings, data)
    spec, dataset = step.find(ctx, **inputs)
    cached = dataset is not None
    if dataset is None:
        dataset = step.build(ctx, spec, **inputs)
    seconds = time.monotonic() - began
    return Result(step.name, source, entry, spec.folder, dataset, seconds, cached)


class Planner:
    """Walks the road asking only: what is there, what would be made, and why."""

    def __init__(self, ctx: Context) -> None:
        """Nothing is asked yet."""
        self._ctx = ctx
        self.steps: list[Planned] = []

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
        settings: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
    ) -> Planned:
        """Look at one step (``flows.dag.Walker``)."""
        planned = self._look(step, source, entry, settings or {}, data or {})
        self.steps.append(planned)
        return planned

    def _look(
        self,
        step: Step,
        source: str | None,
        entry: str | None,
        settings: Mapping[str, Any],
        data: Mapping[str, Any],
    ) -> Planned:
        handles = [
            item
            for value in data.values()
            for item in (value if isinstance(value, list) else [value])
        ]
        missing = next((item for item in handles if item.dataset is None), None)
        if missing is not None:
            label = " ".join(filter(None, (missing.step, missing.source or missing.entry)))
            return Planned(step.name, source, entry, None, None, f"after {label}")
        inputs = {
            name: [item.dataset for item in value] if isinstance(value, list) else value.dataset
            for name, value in data.items()
        }
        try:
            spec, dataset = step.find(self._ctx, **settings, **inputs)
        except BadTokenizer as error:  # this machine's lack; the plan of all else stands
            return Planned(step.name, source, entry, None, None, str(error))
        why = "committed" if dataset is not None else self._reason(spec)
        return Planned(step.name, source, entry, spec.folder, dataset, why)

    def _reason(self, spec: Any) -> str:
        """What differs from the newest-looking data set of the same stage and source."""
        label = f"{spec.source or 'all'}-"
        folders = self._ctx.storage.folders(spec.stage.name)
        differences: list[list[str]] = []
        for folder in folders:
            if not folder.startswith(label) or len(folder) != len(label) + 16:
                continue
            try:
                other = open_dataset(self._ctx.storage.at(spec.stage.name, folder)).manifest
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
            if other.code != spec.stage.code:
                changed.append("code changed")
            (gone, files), (gone_now, files_now) = _apart(other.raw), _apart(spec.raw)
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


def _apart(raw: Sequence[str]) -> tuple[list[str], list[str]]:
    """The entries of a data set's ``raw`` that stand for removals, and the others."""
    gone = [item for item in raw if item.startswith(REMOVALS)]
    return gone, [item for item in raw if not item.startswith(REMOVALS)]
