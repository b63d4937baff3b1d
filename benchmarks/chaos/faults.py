"""Faults of processes: each is killed once, and stopped for a minute once."""

from benchmarks.chaos import victims
from benchmarks.chaos.case import Case, killed, stopped

CASES: tuple[Case, ...] = (
    killed("dask-worker", "a Dask worker", "acquire", victims.dask_worker),
    killed("nanny", "the nannies", "annotate", victims.nanny),
    killed("scheduler", "the Dask scheduler", "annotate", victims.service("dask-scheduler")),
    killed("flow", "the flow's process", "annotate", victims.flow_process),
    killed("flow-training", "the flow's process", "checkpoint", victims.flow_process),
    killed("torchrun", "torchrun", "checkpoint", victims.torchrun),
    killed("rank-0", "the first rank", "checkpoint", victims.rank(0)),
    killed("rank-1", "the last rank", "checkpoint", victims.rank(1)),
    killed("worker", "the Prefect worker", "acquire", victims.service("prefect-worker")),
    killed("power", "Prefect worker and run together", "checkpoint", victims.power_cut),
    killed("api", "the Prefect API", "acquire", victims.service("prefect-api")),
    killed("services", "Prefect's services", "acquire", victims.service("prefect-services")),
    killed("postgres", "Postgres", "acquire", victims.service("postgres")),
    killed("redis", "Redis", "acquire", victims.service("redis")),
    killed("s3", "the S3 server", "annotate", victims.service("s3")),
    killed("s3-training", "the S3 server", "checkpoint", victims.service("s3")),
    stopped("dask-workers", "both Dask workers", "acquire", victims.service("dask-workers")),
    stopped("scheduler", "the Dask scheduler", "acquire", victims.service("dask-scheduler")),
    stopped("flow", "the flow's process", "acquire", victims.flow_process),
    stopped("torchrun", "torchrun", "checkpoint", victims.torchrun),
    stopped("rank-1", "the last rank", "checkpoint", victims.rank(1)),
    stopped("worker", "the Prefect worker", "acquire", victims.service("prefect-worker")),
    stopped("api", "the Prefect API", "acquire", victims.service("prefect-api")),
    stopped("services", "Prefect's services", "acquire", victims.service("prefect-services")),
    stopped("postgres", "Postgres", "acquire", victims.service("postgres")),
    stopped("redis", "Redis", "acquire", victims.service("redis")),
    stopped("s3", "the S3 server", "annotate", victims.service("s3")),
)
