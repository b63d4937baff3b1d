"""The passes over repeated text that the recipe asks for, in order: lines, then substrings."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.stage import Context
from tasks.select.config import SelectConfig
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan
from tasks.select.repeated_text import line_dedup, substring_dedup
from tasks.select.repeated_text.hash_datasets import count_hashes
from tasks.select.repeated_text.line_hashes import build_line_hashes
from tasks.select.repeated_text.pass_state import PassPlan, PassResult, n_partitions
from tasks.select.repeated_text.word_hashes import build_fingerprints

DocumentCounts = Counter[tuple[int, str]]  # by source and reason


def run_passes(
    ctx: Context,
    runner: PhaseRunner,
    plan: SelectionPlan,
    config: SelectConfig,
    documents: Sequence[Dataset],
    part_inputs: Sequence[PartInputs],
    digests: list[str],
) -> tuple[int, DocumentCounts, DocumentCounts]:
    """Run the passes.

    Args:
        ctx: the run.
        runner: runs the phases.
        plan: the selection, whose work folder holds the results of survivor selection.
        config: the recipe's section.
        documents: of all sources.
        part_inputs: their parts.
        digests: digest of the state of each part; updated in place.

    Returns:
        The number of the last pass; the documents dropped by source and reason; the documents
        trimmed, likewise.
    """
    pass_index = 0
    dropped: DocumentCounts = Counter()
    trimmed: DocumentCounts = Counter()
    passes: list[tuple[str, Any, Callable[..., list[PartRef]], Callable[..., list[PassResult]]]] = [
        (line_dedup.REASON, config.line_dedup, build_line_hashes, line_dedup.run_pass),
        (
            substring_dedup.REASON,
            config.substring_dedup,
            build_fingerprints,
            substring_dedup.run_pass,
        ),
    ]
    for reason, section, build, run_pass in passes:
        if section is None:
            continue
        pass_index += 1
        hashes = build(ctx, section, documents)
        counts = runner.run(f"hash counts {pass_index}", count_hashes, [(part,) for part in hashes])
        sources = tuple(inputs.source_index for inputs in part_inputs)
        pass_plan = PassPlan(
            plan.work, plan.starts, plan.n_documents, pass_index, sources, n_partitions(sum(counts))
        )
        for part, result in enumerate(run_pass(runner, pass_plan, part_inputs, hashes, section)):
            dropped[sources[part], reason] += result.dropped
            trimmed[sources[part], reason] += result.trimmed
            digests[part] = result.digest
    return pass_index, dropped, trimmed
