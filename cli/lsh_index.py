"""``gristmill lsh-index``: export the MinHash signatures of a corpus as an LSH index."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command
from cli.interrupts import clean_up_on_interrupt
from infra.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.recipe import Recipe
    from infra.compute.cluster import DaskCluster
    from infra.dataset.dataset import PartRef
    from infra.store.storage import Storage
    from tasks.dedup.config import DedupConfig


@recipe_command
@click.option("--to", "target", required=True, metavar="FILE", help="path or URL of the index")
def lsh_index(recipe: "Recipe", store: "Storage", target: str, as_json: bool) -> None:
    """Export the corpus of the latest run as an LSH index, readable with datasketch.

    Uses the recipe's section dedup. Look a document up with `gristmill lsh-query`.
    """
    from flows.steps import SELECT
    from infra.compute.cluster import DaskCluster
    from infra.runs.run_records import latest_results
    from tasks.dedup.lsh_index import write_index

    record = latest_results(store, recipe.name)
    corpus = next((stage for stage in record.stages if stage.stage == SELECT.name), None)
    if corpus is None:
        raise UserError(
            f"{recipe.name}: run {record.run} has no corpus; run it as far as select first"
        )
    parts = corpus.open(store).parts
    with clean_up_on_interrupt(), DaskCluster(recipe.cluster) as cluster:
        documents = write_index(target, recipe.dedup, _index_parts(cluster, parts, recipe.dedup))
    if as_json:
        print_json({"index": target, "documents": documents, "run": record.run})
    else:
        click.echo(f"{documents:,} documents indexed in {target}")


def _index_parts(
    cluster: "DaskCluster", parts: list["PartRef"], config: "DedupConfig"
) -> Iterator["pa.Table"]:
    """Yield the index rows of each part, in the order of the parts."""
    from tasks.dedup.lsh_index import index_part

    finished: dict[int, pa.Table] = {}
    next_part = 0
    for index, table in cluster.map(index_part, [(part, config) for part in parts]):
        finished[index] = table
        while next_part in finished:
            yield finished.pop(next_part)
            next_part += 1
