"""The sections of the report, in the order of the page."""

from views.report.report_run import Section
from views.report.sections import (
    corpus,
    duplicates,
    finetune,
    funnel,
    leaderboard,
    lineage,
    models,
    quality,
    reasons,
    removed,
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
    word_vectors.SECTION,
    finetune.SECTION,
    removed.SECTION,
    timings.SECTION,
    lineage.SECTION,
)
