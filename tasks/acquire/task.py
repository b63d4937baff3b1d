"""The stage `acquire`: one data set per source, whatever its kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, DatasetSpec, Stage, WorkUnit, build_dataset
from infra.errors import UserError
from infra.removals.match import Removal
from tasks.acquire.config import AnySource
from tasks.acquire.input_files import InputChangedError, forget_digests
from tasks.acquire.source import STAGE_NAME, read_unit
from tasks.acquire.web.config import WebSource

WEB_STAGE = Stage(
    STAGE_NAME,
    modules=("tasks.acquire.web.run", "tasks.acquire.web.crawler"),
    libraries=("fastwarc", "lxml", "protego", "scrapy"),
    deterministic=False,
    keyed_by_code=False,
)


@dataclass(frozen=True)
class FileDatasetSpec(DatasetSpec):
    """A data set made from files, with its units of work.

    The files' digests are ``external_inputs``: they name the data set, but not its units in the unit
    cache, so that the others are not read again when a file is added.
    """

    units: tuple[WorkUnit, ...] = ()


def spec(
    ctx: Context,
    *,
    source: AnySource,
    removals: Sequence[Removal] = (),  # noqa: ARG001
    segment: Dataset | None = None,
) -> DatasetSpec:
    """What the source's data set is made from: its settings, and its files' digests or its snapshot.

    With a segment, which was acquired before, it is that data set: the source is not looked at.

    The snapshot label of a web source is that of the time the run started. Code, libraries and
    removals do not name an acquisition: they are no reason to fetch or read a source again. Removed
    documents that were fetched before are dropped by later stages.
    """
    if segment is not None:
        manifest = segment.manifest
        return DatasetSpec(
            WEB_STAGE, source.name, manifest.config, external_inputs=tuple(manifest.external_inputs)
        )
    if isinstance(source, WebSource):
        return DatasetSpec(WEB_STAGE, source.name, source.crawl_key(ctx.started_at))
    # Another version of the code may read other bytes from the same files, under the same name.
    stage = Stage(
        STAGE_NAME,
        modules=(type(source).__module__,),
        libraries=source.libraries,
        deterministic=False,
        keyed_by_code=False,
    )
    units = tuple(source.list_units())
    files = tuple(unit.key for unit in units)
    return FileDatasetSpec(
        stage, source.name, source.output_config(), external_inputs=files, units=units
    )


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    source: AnySource,
    removals: Sequence[Removal] = (),
    segment: Dataset | None = None,
) -> Dataset:
    """Fetch or read the source and commit. A crawl does not request what was removed.

    Raises:
        UserError: if a segment was given, which exists no more.
    """
    if segment is not None:
        raise UserError(
            f"{spec.folder}, the segment of {source.name}, was deleted; start the run again"
        )
    if isinstance(source, WebSource):
        return _crawl(ctx, spec, source, removals)
    assert isinstance(spec, FileDatasetSpec)
    try:
        return build_dataset(ctx, spec, spec.units, read_unit)
    except InputChangedError:
        forget_digests()  # the file was changed without another size or time
        raise


def has_settings(segment: Dataset, source: AnySource) -> bool:
    """Whether a segment was acquired with a source's settings, at any time, from any files.

    An explicit ``snapshot`` is a setting; the label of a recrawl is a time.
    """
    if not isinstance(source, WebSource):
        return segment.manifest.config == source.output_config()
    settings = source.crawl_key(datetime.now(UTC))
    repeated = source.snapshot is None and source.recrawl != "never"
    ignored = {"snapshot"} if repeated else set()
    return all(
        segment.manifest.config.get(key) == value
        for key, value in settings.items()
        if key not in ignored
    )


def _crawl(
    ctx: Context, spec: DatasetSpec, source: WebSource, removals: Sequence[Removal]
) -> Dataset:
    """Crawl from this process: its disk keeps what was fetched if the run is interrupted."""
    from tasks.acquire.web.run import crawl_site, spool_folder
    from tasks.acquire.web.spool import own_spool

    here = replace(ctx, cluster=DaskCluster(ClusterConfig(workers=0)))
    unit = WorkUnit(key="crawl", payload=(source, spec.fingerprint, ctx.reporter, removals))

    def report_wait() -> None:
        message = "waiting for another run that crawls this site"
        ctx.reporter.update(
            Progress(STAGE_NAME, source.name, 0, source.max_pages, message, units="pages")
        )

    # Committed before it is free: a run that waited finds the data set, or a folder without a crawl.
    with own_spool(spool_folder(spec.fingerprint), report_wait):
        return build_dataset(here, spec, [unit], crawl_site)
