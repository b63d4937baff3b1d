"""The pipeline as a picture: what runs after what, from sources to evaluated models.

``run_step`` decides what running a step means: a Prefect flow submits it as a task, a plan only
looks it up in the store. A handle stands for a data set that may not exist yet.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

from flows.recipe import Recipe
from flows.steps import (
    ACQUIRE,
    ANNOTATE,
    DEDUP,
    EVALUATE,
    EXTRACT,
    FINETUNE,
    INDEX,
    LAST_STAGE,
    MEMORIZATION,
    PREPARE,
    RELEASE,
    SCORE,
    SELECT,
    SUITES,
    TOKENIZE,
    TRAIN,
    StageName,
    runs_until,
)
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.step import BoundStep, Step
from infra.removals.match import Removal
from lm.config.entry import TrainEntry
from lm.config.loop import RunsOnThisMachine
from lm.config.train import TrainConfig
from tasks.acquire.config import AnySource
from tasks.finetune.config import Seq2SeqTaskEntry, TextEntry
from tasks.finetune.entry import FinetuneEntry, Variant

H = TypeVar("H")  # a handle
Bind = Callable[[Callable[[H], Dataset]], BoundStep]


class StepRunner(Protocol[H]):
    """Runs a step of the pipeline, or plans it, and returns a handle of its data set."""

    def __call__(
        self,
        step: Step[...],
        inputs: Sequence[H],
        bind: Bind[H],
        *,
        source: str | None = None,
        entry: str | None = None,
        training: RunsOnThisMachine | None = None,
    ) -> H:
        """Run one step.

        Args:
            step: what to do.
            inputs: all data sets that it reads.
            bind: called once these exist, with a function that gives the data set of a handle;
                returns the step with its arguments.
            source: the source it is done for, if it is done for one.
            entry: the model it is done for, if it is done for one.
            training: what it starts as processes of this machine, for their cores and GPUs.
        """


def build_pipeline(
    run_step: StepRunner[H],
    recipe: Recipe,
    until: StageName = LAST_STAGE,
    removals: Sequence[Removal] = (),
    segments: Mapping[str, Dataset] = MappingProxyType({}),
) -> None:
    """Run all steps of a recipe in order, up to and including a stage.

    Args:
        run_step: runs one step.
        recipe: what to make.
        until: the last stage.
        removals: what was removed from this recipe (``infra.removals.log``).
        segments: by source, segments that exist; the other sources are acquired.
    """

    def acquire_source(source: AnySource) -> H:
        return run_step(
            ACQUIRE,
            [],
            lambda _: ACQUIRE.bind(
                source=source, removals=removals, segment=segments.get(source.name)
            ),
            source=source.name,
        )

    def extract_source(source: AnySource, acquired: H) -> H:
        if not source.needs_extraction:
            return acquired
        return run_step(
            EXTRACT,
            [acquired],
            lambda dataset: EXTRACT.bind(
                config=recipe.extract, raw=dataset(acquired), license=source.license
            ),
            source=source.name,
        )

    def annotate_source(source: AnySource, documents: H) -> H:
        return run_step(
            ANNOTATE,
            [documents],
            lambda dataset: ANNOTATE.bind(config=recipe.annotate, documents=dataset(documents)),
            source=source.name,
        )

    def train_model(config: TrainEntry, tokens: H) -> H:
        in_steps = config if isinstance(config, TrainConfig) else None
        base = models[in_steps.init_from] if in_steps and in_steps.init_from else None
        return run_step(
            TRAIN,
            [tokens] if base is None else [tokens, base],
            lambda dataset: TRAIN.bind(
                config=config,
                tokens=dataset(tokens),
                base_model=None if base is None else dataset(base),
            ),
            entry=config.name,
            training=in_steps,
        )

    def release_model(name: str, model: H, tokens: H | None) -> H:
        return run_step(
            RELEASE,
            [model] if tokens is None else [model, tokens],
            lambda dataset: RELEASE.bind(
                model=dataset(model),
                tokens=None if tokens is None else dataset(tokens),
                formats=recipe.formats_of(name),
            ),
            entry=name,
        )

    def evaluate_model(name: str, export: H, tokens: H) -> None:
        section = recipe.evaluate
        if section is None or not runs_until(EVALUATE, until):
            return
        run_step(
            EVALUATE,
            [export, tokens],
            lambda dataset: EVALUATE.bind(
                config=section, model=dataset(export), tokens=dataset(tokens)
            ),
            entry=name,
        )

    def score_suites(name: str, export: H, tokens: H, index: H) -> None:
        files = recipe.suites
        if not files or not runs_until(SUITES, until):
            return
        run_step(
            SUITES,
            [export, tokens, index],
            lambda dataset: SUITES.bind(
                suites=files, model=dataset(export), tokens=dataset(tokens), index=dataset(index)
            ),
            entry=name,
        )

    def probe_memorization(name: str, export: H, tokens: H, index: H) -> None:
        config = recipe.evaluate.memorization if recipe.evaluate is not None else None
        if config is None or not runs_until(MEMORIZATION, until):
            return
        run_step(
            MEMORIZATION,
            [export, tokens, index],
            lambda dataset: MEMORIZATION.bind(
                config=config, model=dataset(export), tokens=dataset(tokens), index=dataset(index)
            ),
            entry=name,
        )

    def prepare_examples(entry: FinetuneEntry, corpus: H) -> H:
        # What a released folder was pre-trained on is not the corpus of this run.
        read = None if entry.base_folder else corpus
        return run_step(
            PREPARE,
            [corpus],
            lambda dataset: PREPARE.bind(
                entry=entry, corpus=None if read is None else dataset(read), removals=removals
            ),
            entry=entry.name,
        )

    def fine_tune(entry: FinetuneEntry, examples: H, corpus_tokens: H, index: H) -> None:
        # A released folder was trained on other tokens than those of this run.
        base = None if entry.base_folder else models[entry.base]
        tokens = None if base is None else corpus_tokens
        rivals: list[H] = []
        own: list[H] = []
        # Entries with the same examples are compared with each other, each with those before it.
        data = json_sha256([entry.prepare_key(), entry.data.model_dump(mode="json")])
        first = next(iter(entry.expand()))
        # The models from random weights come first: those from the base are compared with them.
        for variant in sorted(entry.expand(), key=lambda item: not item.from_scratch):
            tuned = fine_tune_variant(variant, examples, base, tokens)
            export = release_model(variant.name, tuned, tokens)
            if variant == first:
                translators[entry.name] = (entry, export)
            if variant.is_main and isinstance(entry, TextEntry) and entry.suites:
                score_suites(variant.name, export, corpus_tokens, index)
            if not runs_until(SCORE, until):
                continue
            compared = [*rivals, *(scored.get(data) or ())] if variant.is_main else []
            validated = tuned if variant.cross_validates else None
            scores = score_variant(variant, export, examples, compared, validated)
            rivals += [scores] if variant.from_scratch else []
            if variant.is_main:
                own.append(scores)
        scored.setdefault(data, []).extend(own)

    def fine_tune_variant(variant: Variant, examples: H, base: H | None, tokens: H | None) -> H:
        augment = variant.entry.augment if isinstance(variant.entry, Seq2SeqTaskEntry) else None
        translator = None if augment is None else translators[augment.back_translation.model]
        export = None if translator is None else translator[1]
        return run_step(
            FINETUNE,
            [item for item in (examples, base, tokens, export) if item is not None],
            lambda dataset: FINETUNE.bind(
                variant=variant,
                examples=dataset(examples),
                model=None if base is None else dataset(base),
                tokens=None if tokens is None else dataset(tokens),
                translator=None if translator is None else (translator[0], dataset(translator[1])),
            ),
            entry=variant.name,
            training=variant.entry,
        )

    def score_variant(
        variant: Variant, export: H, examples: H, rivals: Sequence[H], validated: H | None
    ) -> H:
        return run_step(
            SCORE,
            [export, examples, *rivals, *([] if validated is None else [validated])],
            lambda dataset: SCORE.bind(
                variant=variant,
                model=dataset(export),
                examples=dataset(examples),
                rivals=[dataset(item) for item in rivals],
                validated=None if validated is None else dataset(validated),
            ),
            entry=variant.name,
        )

    models: dict[str, H] = {}
    translators: dict[str, tuple[FinetuneEntry, H]] = {}  # the first release of each entry
    scored: dict[str, list[H]] = {}  # of models with all examples, by these
    acquired = [acquire_source(source) for source in recipe.sources]
    if not runs_until(EXTRACT, until):
        return
    documents = [extract_source(*pair) for pair in zip(recipe.sources, acquired, strict=True)]
    if not runs_until(ANNOTATE, until):
        return
    annotations = [annotate_source(*pair) for pair in zip(recipe.sources, documents, strict=True)]
    if not runs_until(DEDUP, until):
        return
    languages = annotations if recipe.dedup.needs_languages else []
    duplicates = run_step(
        DEDUP,
        [*documents, *languages],
        lambda dataset: DEDUP.bind(
            config=recipe.dedup,
            documents=[dataset(item) for item in documents],
            annotations=[dataset(item) for item in languages],
            removals=removals,
        ),
    )
    if not runs_until(SELECT, until):
        return
    corpus = run_step(
        SELECT,
        [*documents, *annotations, duplicates],
        lambda dataset: SELECT.bind(
            config=recipe.select,
            documents=[dataset(item) for item in documents],
            annotations=[dataset(item) for item in annotations],
            duplicate_labels=dataset(duplicates),
            removals=removals,
        ),
    )
    if not runs_until(TOKENIZE, until):
        return
    tokens = run_step(
        TOKENIZE,
        [corpus],
        lambda dataset: TOKENIZE.bind(config=recipe.tokenize, corpus=dataset(corpus)),
    )
    if not runs_until(PREPARE, until):
        return
    examples = [prepare_examples(entry, corpus) for entry in recipe.finetune]
    if not runs_until(INDEX, until):
        return
    index = run_step(
        INDEX,
        [tokens],
        lambda dataset: INDEX.bind(config=recipe.index, tokens=dataset(tokens)),
    )
    if not runs_until(TRAIN, until):
        return
    for config in recipe.models:
        models[config.name] = train_model(config, tokens)
        export = release_model(config.name, models[config.name], tokens)
        evaluate_model(config.name, export, tokens)
        score_suites(config.name, export, tokens, index)
        probe_memorization(config.name, export, tokens, index)
    if not runs_until(FINETUNE, until):
        return
    for entry, prepared in zip(recipe.finetune, examples, strict=True):
        fine_tune(entry, prepared, tokens, index)
