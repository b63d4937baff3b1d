"""Exact duplicates: documents whose normalised texts have one digest."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.dedup.part_groups import Block
from tasks.dedup.shuffle_plan import Layout, repeated, runs

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges: digest halves and document; document, first of its group, group's size.
DIGESTS, GROUPS = 3, 3


def send_digests(layout: Layout, block: Block) -> dict[str, Any]:
    """Send the digests of a block's documents to the partitions of digests."""
    present = block.present()
    digests = block.digests()[present]
    numbers = (np.flatnonzero(present) + block.start).astype(np.uint64)
    rows = np.column_stack([digests, numbers])
    exchange = layout.exchange("digests", len(layout.exact_partitions), DIGESTS)
    exchange.send(block.index, layout.exact_of(rows[:, 0]), rows)
    short = present & (block.shingles() == 0)
    return {"documents": int(present.sum()), "short": int(short.sum())}


def group(layout: Layout, partition: int) -> dict[str, Any]:
    """Find the groups of a partition; tell the block of each member."""
    rows, first, sizes = grouped(layout, partition)
    leaders = np.repeat(rows[first, 2], sizes) if len(first) else np.zeros(0, np.uint64)
    members = np.column_stack([rows[:, 2], leaders, np.repeat(sizes, sizes).astype(np.uint64)])
    layout.to_blocks("groups", GROUPS).send(partition, layout.block_of(members[:, 0]), members)
    return {"groups": len(first), "duplicates": int(sizes.sum() - len(first))}


def grouped(layout: Layout, partition: int) -> tuple[U64, I64, I64]:
    """The documents of a partition that have exact copies.

    Returns:
        Rows (digest halves, document) sorted by digest, then document; where each group starts;
        how many documents it has.
    """
    exchange = layout.exchange("digests", len(layout.exact_partitions), DIGESTS)
    rows = exchange.receive(partition, layout.blocks)
    rows = rows[repeated(rows[:, 0])]
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    first, sizes = runs(rows[:, 0], rows[:, 1])
    alone = np.repeat(sizes == 1, sizes)  # shares the first half of a digest only
    if alone.any():
        rows = rows[~alone]
        first, sizes = runs(rows[:, 0], rows[:, 1])
    return rows, first, sizes


def received_groups(layout: Layout, block: Block) -> U64:
    """The members of groups in a block, by document: uint64[n, 3]."""
    found = layout.to_blocks("groups", GROUPS).receive(block.index, layout.exact_partitions)
    return found[np.argsort(found[:, 0])]
