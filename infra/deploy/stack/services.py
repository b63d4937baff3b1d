"""The services of a stack: how each is started, what it needs, and how to see that it works."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.deploy.stack import probes
from infra.deploy.stack.layout import BUCKET, LOOPBACK, Layout
from infra.deploy.stack.postgres import SETTINGS, find_postgres, initialize_postgres
from infra.errors import UserError

BIN = Path(sys.executable).parent
DASK_WORKERS = 2
# Prefect's servers handle events in batches: otherwise a run with thousands of them loses some.
EVENT_BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
}


def _no_env(_: Layout) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Service:
    """A service of the stack.

    Attributes:
        name: also the name of its log, and of its data's folder.
        command: its command line; it holds no secret, since every user of the machine can read it.
        is_ready: whether it does its work.
        env: environment variables of its own; secrets are passed here or in files.
        after: services that it needs, which are waited for.
        prepare: what is done before each start.
        stop_signal: what ends it in order.
        as_postgres: whether root starts it as the user ``postgres``, since it refuses to be root.
    """

    name: str
    command: Callable[[Layout], list[str]]
    is_ready: Callable[[Layout], bool]
    env: Callable[[Layout], Mapping[str, str]] = _no_env
    after: tuple[str, ...] = ()
    prepare: Callable[[Layout], None] = field(default=lambda _: None)
    stop_signal: str = "TERM"
    as_postgres: bool = False


def _postgres_command(layout: Layout) -> list[str]:
    port = f"port={layout.ports['postgres']}"
    return [find_postgres("postgres"), "-D", str(layout.data("postgres")), *SETTINGS, "-c", port]


def _redis_command(layout: Layout) -> list[str]:
    return [find_program("redis-server"), str(layout.data("redis") / "redis.conf")]


def _prepare_redis(layout: Layout) -> None:
    folder = layout.data("redis")
    folder.mkdir(mode=0o700, exist_ok=True)
    settings = {
        "bind": LOOPBACK,
        "port": layout.ports["redis"],
        "requirepass": layout.secrets["redis"],
        "dir": folder,
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    path = folder / "redis.conf"
    path.touch(mode=0o600)
    path.write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))


def _s3_command(layout: Layout) -> list[str]:
    names = ("s3", "master", "volume", "filer", "admin")
    return [
        find_program("weed"),
        "-logtostderr=true",
        "mini",
        f"-dir={layout.data('s3')}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-bucket={BUCKET}",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{name}.port={layout.ports[name]}" for name in names),
        *(f"-{name}.port.grpc={layout.ports[f'{name}_grpc']}" for name in names),
    ]


def _s3_env(layout: Layout) -> dict[str, str]:
    client, signing = layout.client_env(), layout.secrets["s3_signing"]
    return {
        "AWS_ACCESS_KEY_ID": client["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": client["AWS_SECRET_ACCESS_KEY"],
        # Without keys of their own, its inner servers give every file to whoever asks their ports.
        "WEED_JWT_SIGNING_KEY": signing,
        "WEED_JWT_SIGNING_READ_KEY": signing,
        "WEED_JWT_FILER_SIGNING_KEY": signing,
        "WEED_JWT_FILER_SIGNING_READ_KEY": signing,
        "GOMEMLIMIT": "300MiB",
    }


def _make_s3_folder(layout: Layout) -> None:
    layout.data("s3").mkdir(mode=0o700, exist_ok=True)


def _scheduler_command(layout: Layout) -> list[str]:
    return [
        str(BIN / "dask"),
        "scheduler",
        *("--host", LOOPBACK, "--protocol", "tls", "--port", str(layout.ports["dask"])),
        *("--dashboard-address", f"{LOOPBACK}:{layout.ports['dashboard']}"),
        *_tls_arguments(layout),
    ]


def _workers_command(layout: Layout) -> list[str]:
    return [
        str(BIN / "dask"),
        "worker",
        layout.scheduler,
        *("--host", LOOPBACK, "--nworkers", str(DASK_WORKERS), "--nthreads", "1"),
        *("--memory-limit", str(0.8 / DASK_WORKERS)),
        # Without an address, a worker's own pages are open to the network.
        *("--dashboard-address", f"{LOOPBACK}:0"),
        *_tls_arguments(layout),
    ]


def _tls_arguments(layout: Layout) -> list[str]:
    names = {"--tls-ca-file": "ca.pem", "--tls-cert": "cert.pem", "--tls-key": "key.pem"}
    return [item for name, file in names.items() for item in (name, str(layout.tls / file))]


def _dask_env(layout: Layout) -> dict[str, str]:
    from infra.compute.cluster import MEMORY_SETTINGS, WORKER_ENVIRONMENT

    memory = {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value)
        for name, value in MEMORY_SETTINGS.items()
    }
    scratch = {"DASK_TEMPORARY_DIRECTORY": str(layout.data("dask"))}
    return {**layout.client_env(), **WORKER_ENVIRONMENT, **memory, **scratch}


def _prefect_env(layout: Layout) -> dict[str, str]:
    """What every process of Prefect needs: a private home, no telemetry, no question."""
    return {
        **layout.client_env(),
        "PREFECT_HOME": str(layout.data("prefect")),
        "PREFECT_CLI_PROMPT": "false",
        "SCARF_NO_ANALYTICS": "true",
    }


def _server_env(layout: Layout) -> dict[str, str]:
    """The settings of both halves of Prefect's server."""
    secrets, ports = layout.secrets, layout.ports
    redis_url = f"redis://:{secrets['redis']}@{LOOPBACK}:{ports['redis']}"
    database = f"prefect:{secrets['postgres']}@{LOOPBACK}:{ports['postgres']}/prefect"
    return {
        **_prefect_env(layout),
        **EVENT_BATCHES,
        "PREFECT_SERVER_API_AUTH_STRING": layout.client_env()["PREFECT_API_AUTH_STRING"],
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
        "PREFECT_REDIS_MESSAGING_URL": f"{redis_url}/0",
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"{redis_url}/0",
        "PREFECT_SERVER_DOCKET_URL": f"{redis_url}/1",
        "PREFECT_SERVER_UI_API_URL": layout.api_url,
    }


def _worker_folder(layout: Layout) -> Path:
    """The temporary folder of the worker that this process becomes, and of its runs."""
    return layout.data("prefect-worker") / str(os.getpid())


def _prepare_worker(layout: Layout) -> None:
    """Make the temporary folder; delete those of workers that were killed, once their runs have ended."""
    used: set[Path] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            used.add(Path(process.environ().get("TMPDIR", "")))
    folder = _worker_folder(layout)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    for other in folder.parent.iterdir():
        if other not in used:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _worker_env(layout: Layout) -> dict[str, str]:
    return {
        **_prefect_env(layout),
        "TMPDIR": str(_worker_folder(layout)),
        "PREFECT_WORKER_WEBSERVER_HOST": LOOPBACK,
        "PREFECT_WORKER_WEBSERVER_PORT": str(layout.ports["worker"]),
    }


def _api_command(layout: Layout) -> list[str]:
    port = str(layout.ports["prefect"])
    return [*_prefect("server", "start", "--no-services"), "--host", LOOPBACK, "--port", port]


def _prefect(*arguments: str) -> list[str]:
    return [str(BIN / "prefect"), "--no-prompt", *arguments]


SERVICES = (
    Service(
        "postgres",
        _postgres_command,
        probes.postgres,
        prepare=initialize_postgres,
        stop_signal="INT",  # the "fast" shutdown: it does not wait for clients
        as_postgres=True,
    ),
    Service("redis", _redis_command, probes.redis, prepare=_prepare_redis),
    Service("s3", _s3_command, probes.s3, _s3_env, prepare=_make_s3_folder),
    Service("dask-scheduler", _scheduler_command, probes.dask_scheduler, _dask_env),
    Service("dask-workers", _workers_command, probes.dask_workers, _dask_env, ("dask-scheduler",)),
    Service("prefect-api", _api_command, probes.prefect_api, _server_env, ("postgres", "redis")),
    Service(
        "prefect-services",
        lambda _: _prefect("server", "services", "start"),
        probes.prefect_services,
        _server_env,
        ("prefect-api",),  # it brings the tables of the database up to date
    ),
    Service(
        "prefect-worker",
        lambda _: _prefect(
            *("worker", "start", "--type", "process", "--pool", "gristmill"),
            *("--name", "stack", "--with-healthcheck"),
        ),
        probes.prefect_worker,
        _worker_env,
        ("prefect-api",),
        prepare=_prepare_worker,
    ),
)


def find_service(name: str) -> Service:
    """Return a service by its name."""
    return next(service for service in SERVICES if service.name == name)


def find_program(name: str) -> str:
    """Return the path of a program of this environment or of the system.

    Raises:
        UserError: if it is not installed.
    """
    path = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if path is None:
        raise UserError(f"{name} is not installed; run scripts/system-deps.sh as root")
    return path
