"""The stage `acquire`: one data set per source, whatever its kind."""

from collections.abc import Sequence
from dataclasses import replace

from infra.compute.cluster import ClusterConfig, DaskCluster
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, DatasetSpec, Stage, WorkUnit, build_dataset
from infra.removals.match import Removal
from tasks.acquire.config import Source, WebSource
from tasks.acquire.file_source import FileDatasetSpec, plan_files
from tasks.acquire.input_files import InputChangedError, forget_digests

WEB_STAGE = Stage(
    "acquire",
    modules=("tasks.acquire.web.run", "tasks.acquire.web.crawler"),
    libraries=("fastwarc", "lxml", "protego", "scrapy"),
    deterministic=False,
    keyed_by_code=False,
)


def spec(
    ctx: Context,
    *,
    source: Source,
    removals: Sequence[Removal] = (),  # noqa: ARG001
) -> DatasetSpec:
    """What the source's data set is made from: its settings, and its files' digests or its snapshot.

    The snapshot label of a web source is that of the time the run started. Code, libraries and
    removals do not name an acquisition: they are no reason to fetch or read a source again. Removed
    documents that were fetched before are dropped by later stages.
    """
    if isinstance(source, WebSource):
        return DatasetSpec(WEB_STAGE, source.name, source.crawl_key(ctx.started_at))
    made = plan_files(source)
    files = tuple(unit.key for unit in made.units)
    return FileDatasetSpec(
        made.stage, source.name, made.config, external_inputs=files, acquisition=made
    )


def build(
    ctx: Context, spec: DatasetSpec, *, source: Source, removals: Sequence[Removal] = ()
) -> Dataset:
    """Fetch or read the source and commit. A crawl does not request what was removed."""
    if isinstance(source, WebSource):
        return _crawl(ctx, spec, source, removals)
    made = (
        spec.acquisition
        if isinstance(spec, FileDatasetSpec) and spec.acquisition
        else plan_files(source)
    )
    try:
        return build_dataset(ctx, spec, made.units, made.function)
    except InputChangedError:
        forget_digests()  # the file was changed without another size or time
        raise


def _crawl(
    ctx: Context, spec: DatasetSpec, source: WebSource, removals: Sequence[Removal]
) -> Dataset:
    """Crawl from this process: its disk keeps what was fetched if the run is interrupted."""
    from tasks.acquire.web.run import crawl_site, spool_folder
    from tasks.acquire.web.spool import remove_spool

    here = replace(ctx, cluster=DaskCluster(ClusterConfig(workers=0)))
    unit = WorkUnit(key="crawl", payload=(source, spec.fingerprint, ctx.reporter, removals))
    dataset = build_dataset(here, spec, [unit], crawl_site)
    remove_spool(spool_folder(spec.fingerprint))
    return dataset
