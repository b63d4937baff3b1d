"""``gristmill lsh-index``: export the MinHash signatures of a corpus as an LSH index."""

from collections.abc import Iterator

import click
import pyarrow as pa

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe_loader import load_recipe
from infra.compute.cluster import DaskCluster
from infra.dataset.dataset import PartRef
from infra.errors import UserError
from infra.runs.run_records import latest_run, with_earlier_results
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.lsh_index import index_part, write_index


@click.command()
@recipe_options
@click.option("--to", "target", required=True, metavar="FILE", help="path or URL of the index")
@json_option
@handle_errors
def lsh_index(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    target: str,
    as_json: bool,
) -> None:
    """Export the corpus of the latest run as an LSH index, readable with datasketch.

    Uses the recipe's section dedup. Look a document up with `gristmill lsh-query`.
    """
    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    record = with_earlier_results(store, latest_run(store, recipe.name))
    corpora = [stage for stage in record.stages if stage.stage == "select"]
    if not corpora:
        raise UserError(
            f"{recipe.name}: run {record.run} has no corpus; run it as far as select first"
        )
    corpus = corpora[-1].open(store)
    with DaskCluster(recipe.cluster) as cluster:
        documents = write_index(target, recipe.dedup, _tables(cluster, corpus.parts, recipe.dedup))
    if as_json:
        print_json({"index": target, "documents": documents, "run": record.run})
    else:
        click.echo(f"{documents:,} documents indexed in {target}")


def _tables(cluster: DaskCluster, parts: list[PartRef], config: DedupConfig) -> Iterator[pa.Table]:
    """Yield the rows of each part, in the order of the parts."""
    waiting: dict[int, pa.Table] = {}
    following = 0
    for index, table in cluster.map(index_part, [(part, config) for part in parts]):
        waiting[index] = table
        while following in waiting:
            yield waiting.pop(following)
            following += 1
