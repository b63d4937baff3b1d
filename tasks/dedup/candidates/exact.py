"""Exact duplicates: documents whose normalized texts have the same digest."""

from typing import Any

import numpy as np

from infra.compute.arrays import I64, U64
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import DedupPlan, duplicate_indices, find_equal_runs

# Rows of digests: digest halves, document. Rows of groups: document, first document of its group,
# size of the group.
DIGEST_WIDTH, GROUP_WIDTH = 3, 3


def send_digests(plan: DedupPlan, part_group: PartGroup) -> dict[str, Any]:
    """Send the digests of a part group's documents."""
    present = part_group.present()
    digests = part_group.digests()[present]
    numbers = (np.flatnonzero(present) + part_group.start).astype(np.uint64)
    rows = np.column_stack([digests, numbers])
    shuffle = plan.shuffle("digests", len(plan.exact_partitions), DIGEST_WIDTH)
    shuffle.write_rows(part_group.index, plan.exact_partition_of(rows[:, 0]), rows)
    short = present & (part_group.shingle_counts() == 0)
    return {"documents": int(present.sum()), "short": int(short.sum())}


def find_groups(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Find the exact groups of a partition; send each member to its part group."""
    rows, first, sizes = group_rows(plan, partition)
    first_documents = np.repeat(rows[first, 2], sizes) if len(first) else np.zeros(0, np.uint64)
    members = np.column_stack(
        [rows[:, 2], first_documents, np.repeat(sizes, sizes).astype(np.uint64)]
    )
    plan.shuffle_to_ranges("groups", GROUP_WIDTH).write_rows(
        partition, plan.range_of(members[:, 0]), members
    )
    return {"groups": len(first), "duplicates": int(sizes.sum() - len(first))}


def group_rows(plan: DedupPlan, partition: int) -> tuple[U64, I64, I64]:
    """Return the documents of a partition that have exact duplicates, as rows of digests.

    They are sorted by digest, then document. Also return where each group starts, and its size.
    """
    shuffle = plan.shuffle("digests", len(plan.exact_partitions), DIGEST_WIDTH)
    rows = shuffle.read_partition(partition, plan.ranges)
    rows = rows[duplicate_indices(rows[:, 0])]
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    first, sizes = find_equal_runs(rows[:, 0], rows[:, 1])
    alone = np.repeat(sizes == 1, sizes)  # only the first half of the digest is shared
    if alone.any():
        rows = rows[~alone]
        first, sizes = find_equal_runs(rows[:, 0], rows[:, 1])
    return rows, first, sizes


def receive_groups(plan: DedupPlan, part_group: PartGroup) -> U64:
    """Read the members of exact groups in a part group, by document: uint64[n, 3]."""
    members = plan.shuffle_to_ranges("groups", GROUP_WIDTH).read_partition(
        part_group.index, plan.exact_partitions
    )
    return members[np.argsort(members[:, 0])]
