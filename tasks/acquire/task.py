"""The stage `acquire`: one data set per source, whatever its kind."""

from __future__ import annotations

from dataclasses import replace

from infra.cluster import Cluster, ClusterConfig
from infra.dag import Step
from infra.dataset import Dataset
from infra.stage import Context, Spec, Stage, Unit, build
from tasks.acquire.config import Source, WebSource
from tasks.acquire.plan import FileSpec, plan

WEB = Stage(
    "acquire",
    modules=(
        "tasks.acquire.web",
        "tasks.acquire.outcome",
        "tasks.acquire.parts",
        "infra.body",
        "infra.warc",
    ),
    libraries=("fastwarc", "lxml", "protego", "scrapy"),
    deterministic=False,
)


def spec(ctx: Context, *, source: Source) -> Spec:
    """What the source's data set is made from: its files' digests, or the crawl that is wanted.

    A web source's snapshot label is that of the run's beginning.
    """
    if isinstance(source, WebSource):
        return Spec(WEB, source.name, source.collects(ctx.now))
    made = plan(source)
    files = tuple(unit.key for unit in made.units)
    return FileSpec(made.stage, source.name, made.config, raw=files, plan=made)


def run(ctx: Context, spec: Spec, *, source: Source) -> Dataset:
    """Fetches or reads the source and commits."""
    if isinstance(source, WebSource):
        return _crawl(ctx, spec, source)
    made = spec.plan if isinstance(spec, FileSpec) and spec.plan else plan(source)
    return build(ctx, spec, made.units, made.function)


def _crawl(ctx: Context, spec: Spec, source: WebSource) -> Dataset:
    """Crawls from this process: its disk keeps what was fetched if the run is cut off."""
    from tasks.acquire.web.run import folder, web
    from tasks.acquire.web.spool import remove

    here = replace(ctx, cluster=Cluster(ClusterConfig(workers=0)))
    unit = Unit(key="crawl", payload=(source, spec.fingerprint, ctx.reporter))
    dataset = build(here, spec, [unit], web)
    remove(folder(spec.fingerprint))
    return dataset


acquire = Step("acquire", spec, run)
