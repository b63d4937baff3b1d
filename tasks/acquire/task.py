"""The stage `acquire`: one data set per source, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from infra.compute.cluster import Cluster, ClusterConfig
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, Spec, Stage, Unit, build
from infra.dataset.step import Step
from infra.removals.match import Removal
from tasks.acquire.config import Source, WebSource
from tasks.acquire.file_source import FileSpec, plan

WEB = Stage(
    "acquire",
    modules=("tasks.acquire.web.run", "tasks.acquire.web.crawler"),
    libraries=("fastwarc", "lxml", "protego", "scrapy"),
    deterministic=False,
)


def spec(
    ctx: Context,
    *,
    source: Source,
    removals: Sequence[Removal] = (),  # noqa: ARG001
) -> Spec:
    """What the source's data set is made from: its files' digests, or the crawl that is wanted.

    A web source's snapshot label is that of the run's beginning. Removals have no part in the
    name: they are no reason to fetch a site again, and what was fetched before is dropped later.
    """
    if isinstance(source, WebSource):
        return Spec(WEB, source.name, source.collects(ctx.now))
    made = plan(source)
    files = tuple(unit.key for unit in made.units)
    return FileSpec(made.stage, source.name, made.config, raw=files, plan=made)


def run(ctx: Context, spec: Spec, *, source: Source, removals: Sequence[Removal] = ()) -> Dataset:
    """Fetches or reads the source and commits. A crawl does not ask for what was taken out."""
    if isinstance(source, WebSource):
        return _crawl(ctx, spec, source, removals)
    made = spec.plan if isinstance(spec, FileSpec) and spec.plan else plan(source)
    return build(ctx, spec, made.units, made.function)


def _crawl(ctx: Context, spec: Spec, source: WebSource, removals: Sequence[Removal]) -> Dataset:
    """Crawls from this process: its disk keeps what was fetched if the run is cut off."""
    from tasks.acquire.web.run import folder, web
    from tasks.acquire.web.spool import remove

    here = replace(ctx, cluster=Cluster(ClusterConfig(workers=0)))
    unit = Unit(key="crawl", payload=(source, spec.fingerprint, ctx.reporter, removals))
    dataset = build(here, spec, [unit], web)
    remove(folder(spec.fingerprint))
    return dataset


acquire = Step("acquire", spec, run)
