"""Exact duplicates: documents whose normalised texts have one digest."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import ShufflePlan, duplicate_indices, find_equal_runs

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges: digest halves and document; document, first of its group, group's size.
DIGEST_WIDTH, GROUP_WIDTH = 3, 3


def send_digests(plan: ShufflePlan, part_group: PartGroup) -> dict[str, Any]:
    """Send the digests of a block's documents to the partitions of digests."""
    present = part_group.present()
    digests = part_group.digests()[present]
    numbers = (np.flatnonzero(present) + part_group.start).astype(np.uint64)
    rows = np.column_stack([digests, numbers])
    exchange = plan.shuffle("digests", len(plan.exact_partitions), DIGEST_WIDTH)
    exchange.write_rows(part_group.index, plan.exact_index(rows[:, 0]), rows)
    short = present & (part_group.shingle_counts() == 0)
    return {"documents": int(present.sum()), "short": int(short.sum())}


def find_groups(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Find the groups of a partition; tell the block of each member."""
    rows, first, sizes = group_rows(plan, partition)
    leaders = np.repeat(rows[first, 2], sizes) if len(first) else np.zeros(0, np.uint64)
    members = np.column_stack([rows[:, 2], leaders, np.repeat(sizes, sizes).astype(np.uint64)])
    plan.shuffle_to_part_groups("groups", GROUP_WIDTH).write_rows(
        partition, plan.part_group_index(members[:, 0]), members
    )
    return {"groups": len(first), "duplicates": int(sizes.sum() - len(first))}


def group_rows(plan: ShufflePlan, partition: int) -> tuple[U64, I64, I64]:
    """The documents of a partition that have exact copies.

    Returns:
        Rows (digest halves, document) sorted by digest, then document; where each group starts;
        how many documents it has.
    """
    exchange = plan.shuffle("digests", len(plan.exact_partitions), DIGEST_WIDTH)
    rows = exchange.read_partition(partition, plan.part_groups)
    rows = rows[duplicate_indices(rows[:, 0])]
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    first, sizes = find_equal_runs(rows[:, 0], rows[:, 1])
    alone = np.repeat(sizes == 1, sizes)  # shares the first half of a digest only
    if alone.any():
        rows = rows[~alone]
        first, sizes = find_equal_runs(rows[:, 0], rows[:, 1])
    return rows, first, sizes


def receive_groups(plan: ShufflePlan, part_group: PartGroup) -> U64:
    """The members of groups in a block, by document: uint64[n, 3]."""
    found = plan.shuffle_to_part_groups("groups", GROUP_WIDTH).read_partition(
        part_group.index, plan.exact_partitions
    )
    return found[np.argsort(found[:, 0])]
