"""A step of the pipeline: what it is done for, what it takes in, what a reader should see of it.

``flows.steps`` holds the one ordered list. Views get it as an argument, so that no other file lists
stage names. Stages do not import this module: a changed declaration changes no code version.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, Generic, Literal, ParamSpec

from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import DatasetNotFoundError
from infra.dataset.stage import Context, DatasetSpec

P = ParamSpec("P")

Per = Literal["source", "run", "model", "task"]
Output = Literal[
    "documents",  # text with ids and URLs, of one source
    "annotations",  # columns beside the documents
    "duplicate_labels",  # columns beside the documents of all sources
    "corpus",  # the selected text
    "tokens",  # token shards
    "index",  # where each run of training tokens stands
    "model",  # trained weights
    "export",  # a Hugging Face folder
    "scores",  # of a model, on held-out documents
    "suite_scores",  # of a model, on suites of items
    "repeated_passages",  # by a model, of its training text
    "examples",  # of a task, which models are fine-tuned on
    "test_scores",  # of a fine-tuned model and its baselines, on test examples
]


@dataclass(frozen=True)
class BoundStep:
    """A step with all its arguments: what it would make, and how.

    Attributes:
        spec: ``spec(ctx)`` names the data set; cheap and without side effects.
        build: ``build(ctx, spec)`` does the work and commits.
    """

    spec: Callable[[Context], DatasetSpec]
    build: Callable[[Context, DatasetSpec], Dataset]

    def lookup(self, ctx: Context) -> tuple[DatasetSpec, Dataset | None]:
        """Return what would be made, and the committed data set if it exists."""
        spec = self.spec(ctx)
        ctx.hold(spec.folder)
        try:
            return spec, open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        except DatasetNotFoundError:
            return spec, None


@dataclass(frozen=True)
class Step(Generic[P]):
    """One entry of the list of steps.

    Attributes:
        name: the stage's name, as in ``--until`` and in paths.
        spec: ``spec(ctx, **arguments) -> DatasetSpec``; cheap and without side effects, so that a
            plan can ask what would be made.
        build: ``build(ctx, spec, **arguments) -> Dataset``; does the work and commits. Takes the
            same arguments as ``spec``.
        per: whether it runs once per source, once per run, once per model of ``train`` or ``finetune``,
            or once per entry of ``finetune``.
        output: what its data set is.
        inputs: names of the steps whose data sets it reads.
        counts_from: names of the steps whose kept documents are exactly what it takes in. Empty if
            its documents come from outside, or if it does not count documents of another step.
        columns: columns of its table that describe one document to a reader.
        units: what its progress counts, in the plural, if it takes long: its progress bar is kept
            when it has ended. Others count parts.
        with_previous: whether it always runs together with the step before it in the list;
            ``--until`` does not name it.
    """

    name: str
    spec: Callable[Concatenate[Context, P], DatasetSpec]
    build: Callable[Concatenate[Context, DatasetSpec, P], Dataset]
    per: Per
    output: Output
    inputs: tuple[str, ...] = ()
    counts_from: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    units: str | None = None
    with_previous: bool = False

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundStep:
        """Bind the arguments of ``spec`` and ``build``."""
        return BoundStep(
            lambda ctx: self.spec(ctx, *args, **kwargs),
            lambda ctx, spec: self.build(ctx, spec, *args, **kwargs),
        )

    @property
    def holds_text(self) -> bool:
        """Whether its data sets hold the text of documents as such."""
        return self.output in ("documents", "corpus")

    @property
    def quotes_text(self) -> bool:
        """Whether texts can be restored, in whole or in part, from its data sets."""
        return self.holds_text or self.output in (
            *("tokens", "index", "scores", "examples", "test_scores"),
        )

    @property
    def makes_model(self) -> bool:
        """Whether its data sets are trained models."""
        return self.output == "model"


Steps = Sequence[Step[...]]


def steps_with_output(steps: Steps, *outputs: Output) -> list[str]:
    """Return the names of the steps that make such data sets, in the order of the pipeline."""
    return [step.name for step in steps if step.output in outputs]
