"""The sections of the report, in the order of the page."""

from views.report.report_run import Section
from views.report.sections import (
    corpus,
    duplicates,
    finetune,
    funnel,
    gates,
    interpret,
    leaderboard,
    lineage,
    memorization,
    models,
    quality,
    reasons,
    removed,
    suites,
    timings,
    tokenizer,
    word_vectors,
)

SECTIONS: tuple[Section, ...] = (
    funnel.SECTION,
    reasons.SECTION,
    corpus.SECTION,
    tokenizer.SECTION,
    duplicates.SECTION,
    quality.SECTION,
    leaderboard.SECTION,
    models.SECTION,
    suites.SECTION,
    memorization.SECTION,
    word_vectors.SECTION,
    finetune.SECTION,
    interpret.SECTION,
    gates.SECTION,
    removed.SECTION,
    timings.SECTION,
    lineage.SECTION,
)
