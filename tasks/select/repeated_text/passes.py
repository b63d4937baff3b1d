"""The passes over repeated text that the recipe asks for, in order: lines, then substrings."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.stage import Context
from tasks.select.config import SelectConfig
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan
from tasks.select.repeated_text import line_dedup, substring_dedup
from tasks.select.repeated_text.config import LineDedupConfig, SubstringDedupConfig
from tasks.select.repeated_text.hash_datasets import count_hashes
from tasks.select.repeated_text.line_hashes import build_line_hashes
from tasks.select.repeated_text.pass_state import PassPlan, PassResult, n_partitions
from tasks.select.repeated_text.winnowed_hashes import build_fingerprints
from tasks.select.repeated_text.word_hashes import winnowing_params

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
        documents: the sources' documents.
        part_inputs: their parts.
        digests: digest of the state of each part; updated in place.

    Returns:
        The number of the last pass; the documents dropped by source and reason; the documents
        trimmed, likewise.
    """
    pass_index = 0
    dropped: DocumentCounts = Counter()
    trimmed: DocumentCounts = Counter()

    def plan_pass(hashes: Sequence[PartRef]) -> PassPlan:
        counts = runner.run(f"hash counts {pass_index}", count_hashes, [(part,) for part in hashes])
        sources = tuple(inputs.source_index for inputs in part_inputs)
        return PassPlan(
            plan.work, plan.starts, plan.n_documents, pass_index, sources, n_partitions(sum(counts))
        )

    def record(reason: str, results: Sequence[PassResult]) -> None:
        for part, result in enumerate(results):
            dropped[part_inputs[part].source_index, reason] += result.dropped
            trimmed[part_inputs[part].source_index, reason] += result.trimmed
            digests[part] = result.digest

    if config.line_dedup is not None:
        pass_index += 1
        hashes = build_line_hashes(ctx, config.line_dedup, documents)
        pass_plan = plan_pass(hashes)
        record(
            line_dedup.REASON,
            _run_line_dedup(runner, pass_plan, part_inputs, hashes, config.line_dedup),
        )
    if config.substring_dedup is not None:
        pass_index += 1
        hashes = build_fingerprints(ctx, config.substring_dedup.min_run_words, documents)
        pass_plan = plan_pass(hashes)
        record(
            substring_dedup.REASON,
            _run_substring_dedup(runner, pass_plan, part_inputs, hashes, config.substring_dedup),
        )
    return pass_index, dropped, trimmed


def _run_line_dedup(
    runner: PhaseRunner,
    plan: PassPlan,
    part_inputs: Sequence[PartInputs],
    hashes: Sequence[PartRef],
    config: LineDedupConfig,
) -> list[PassResult]:
    payloads: list[tuple[Any, ...]] = [
        (plan, part, hashes[part], inputs.documents, config)
        for part, inputs in enumerate(part_inputs)
    ]
    runner.run("line hashes", line_dedup.send_lines, payloads)
    partitions = [(plan, number, config) for number in range(plan.n_partitions)]
    runner.run("repeated lines", line_dedup.find_lines, partitions)
    payloads = [(plan, part, config) for part in plan.ranges]
    runner.run("line survivors", line_dedup.request_survivor_ids, payloads)
    payloads = [(plan, part, inputs.documents) for part, inputs in enumerate(part_inputs)]
    runner.run("line survivor ids", send_ids, payloads)
    payloads = [(plan, part, inputs, config) for part, inputs in enumerate(part_inputs)]
    results = runner.run("line cuts", line_dedup.apply_line_dedup, payloads)
    return [PassResult(*result) for result in results]


def _run_substring_dedup(
    runner: PhaseRunner,
    plan: PassPlan,
    part_inputs: Sequence[PartInputs],
    fingerprints: Sequence[PartRef],
    config: SubstringDedupConfig,
) -> list[PassResult]:
    payloads: list[tuple[Any, ...]] = [(plan, p, fingerprints[p]) for p in plan.ranges]
    runner.run("fingerprints", substring_dedup.send_fingerprints, payloads)
    payloads = [(plan, number) for number in range(plan.n_partitions)]
    shared = sum(runner.run("shared fingerprints", substring_dedup.find_shared, payloads))
    # An upper bound: a fingerprint is in this many runs, some of which are equal.
    n = n_partitions(shared * winnowing_params(config.min_run_words)[1])
    payloads = [(plan, p, part_inputs[p], config.min_run_words, n) for p in plan.ranges]
    runner.run("word runs", substring_dedup.send_runs, payloads)
    payloads = [(plan, number, n) for number in range(n)]
    runner.run("repeated runs", substring_dedup.find_runs, payloads)
    payloads = [(plan, p, part_inputs[p], config, n) for p in plan.ranges]
    runner.run("coverage", substring_dedup.find_coverage, payloads)
    payloads = [(plan, part, inputs.documents) for part, inputs in enumerate(part_inputs)]
    runner.run("substring survivor ids", send_ids, payloads)
    payloads = [(plan, part, inputs, config) for part, inputs in enumerate(part_inputs)]
    results = runner.run("substring cuts", substring_dedup.apply_substring_dedup, payloads)
    return [PassResult(*result) for result in results]


def send_ids(plan: PassPlan, part: int, documents: PartRef) -> None:
    """Send the requested ids of a part's documents; see `PassPlan.send_ids`."""
    plan.send_ids(part, documents)
