"""The one ordered list of steps: everything that runs over the stages is driven by it.

To add a stage: write its folder below ``tasks``, declare it here, and wire it in ``flows.dag``.
"""

from typing import Annotated

from pydantic import WithJsonSchema

from infra.config import one_of
from infra.dataset.step import Step, Steps
from infra.schemas.annotations import PII_COLUMNS
from infra.schemas.examples import SOURCE
from tasks.acquire import task as acquire
from tasks.annotate import task as annotate
from tasks.dedup import task as dedup
from tasks.evaluate import task as evaluate
from tasks.extract import task as extract
from tasks.finetune import prepare_task as prepare
from tasks.finetune import score_task as score
from tasks.finetune import task as finetune
from tasks.index import task as index
from tasks.memorization import task as memorization
from tasks.release import task as release
from tasks.select import task as select
from tasks.suites import task as suites
from tasks.tokenize import task as tokenize
from tasks.train import task as train

ACQUIRE = Step(
    "acquire",
    acquire.spec,
    acquire.build,
    per="source",
    output="documents",
    columns=("license",),
    units="parts",
)
EXTRACT = Step(
    "extract",
    extract.spec,
    extract.build,
    per="source",
    output="documents",
    inputs=("acquire",),
    counts_from=("acquire",),
    columns=("license",),
    units="parts",
)
ANNOTATE = Step(
    "annotate",
    annotate.spec,
    annotate.build,
    per="source",
    output="annotations",
    inputs=("acquire", "extract"),  # a source of documents needs no extraction
    counts_from=("acquire", "extract"),
    columns=("language", "language_score", "words", "characters", "bytes", *PII_COLUMNS),
)
DEDUP = Step(
    "dedup",
    dedup.spec,
    dedup.build,
    per="run",
    output="duplicate_labels",
    inputs=("acquire", "extract", "annotate"),
    counts_from=("acquire", "extract"),
    columns=("exact_group", "cluster", "cluster_size"),
    units="tasks",
)
SELECT = Step(
    "select",
    select.spec,
    select.build,
    per="run",
    output="corpus",
    inputs=("acquire", "extract", "annotate", "dedup"),
    counts_from=("annotate",),
    columns=("language", "words", "cluster", "cluster_size"),
)
TOKENIZE = Step(
    "tokenize",
    tokenize.spec,
    tokenize.build,
    per="run",
    output="tokens",
    inputs=("select",),
    counts_from=("select",),
    columns=("split", "sequence", "tokens", "bytes", "offset"),
)
PREPARE = Step(
    "prepare",
    prepare.spec,
    prepare.build,
    per="task",
    output="examples",
    inputs=("select",),
    columns=("split", "file", "row", *SOURCE.names),
)
INDEX = Step(
    "index",
    index.spec,
    index.build,
    per="run",
    output="index",
    inputs=("tokenize",),
    columns=("tokens",),
)
TRAIN = Step(
    "train",
    train.spec,
    train.build,
    per="model",
    output="model",
    inputs=("tokenize",),
    units="steps",
)
RELEASE = Step(
    "release",
    release.spec,
    release.build,
    per="model",
    output="export",
    inputs=("train", "finetune", "tokenize"),
    with_previous=True,
)
EVALUATE = Step(
    "evaluate",
    evaluate.spec,
    evaluate.build,
    per="model",
    output="scores",
    inputs=("release", "tokenize"),
)
SUITES = Step(
    "suites",
    suites.spec,
    suites.build,
    per="model",
    output="suite_scores",
    inputs=("release", "tokenize", "index"),
)
MEMORIZATION = Step(
    "memorization",
    memorization.spec,
    memorization.build,
    per="model",
    output="repeated_passages",
    inputs=("release", "tokenize", "index"),
)
FINETUNE = Step(
    "finetune",
    finetune.spec,
    finetune.build,
    per="model",
    output="model",
    inputs=("prepare", "train", "release"),  # a translator's, which writes examples
    units="steps",
)
SCORE = Step(
    "score",
    score.spec,
    score.build,
    per="model",
    output="test_scores",
    inputs=("release", "prepare", "finetune"),
)

STEPS: Steps = (
    *(ACQUIRE, EXTRACT, ANNOTATE, DEDUP, SELECT, TOKENIZE),
    # Before the training, which takes hours: files of examples that cannot be used are known by then.
    *(PREPARE, INDEX, TRAIN, RELEASE, EVALUATE, SUITES, MEMORIZATION, FINETUNE, SCORE),
)

# What `--until` and the flows' parameter `until` may name, in the order of the pipeline.
STAGE_NAMES = tuple(step.name for step in STEPS if not step.with_previous)
LAST_STAGE = STAGE_NAMES[-1]
StageName = Annotated[
    str,
    one_of("stage", frozenset(STAGE_NAMES)),
    WithJsonSchema({"type": "string", "enum": list(STAGE_NAMES)}),
]


def runs_until(step: Step[...], until: StageName) -> bool:
    """Return whether a run that stops after the stage ``until`` includes a step."""
    names = [item.name for item in STEPS]
    index = names.index(step.name)
    while STEPS[index].with_previous:
        index -= 1
    return index <= names.index(until)
