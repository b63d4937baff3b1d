"""Whether a service does its work: asked as its clients ask, with their passwords."""

import socket

from infra.deploy.events_probe import TIMEOUT_S, events_pass, get_json
from infra.deploy.stack.layout import BUCKET, LOOPBACK, Layout


def postgres(layout: Layout) -> bool:
    """Whether Prefect's database accepts queries."""
    import asyncio

    import asyncpg

    async def select() -> bool:
        connection = await asyncpg.connect(
            host=LOOPBACK,
            port=layout.ports["postgres"],
            user="prefect",
            password=layout.secrets["postgres"],
            database="prefect",
            ssl=False,
            timeout=TIMEOUT_S,
        )
        try:
            return bool(await connection.fetchval("SELECT 1") == 1)
        finally:
            await connection.close(timeout=TIMEOUT_S)

    try:
        return asyncio.run(select())
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False


def redis(layout: Layout) -> bool:
    """Whether Redis answers, and only to the password."""
    try:
        with socket.create_connection((LOOPBACK, layout.ports["redis"]), TIMEOUT_S) as connection:
            connection.sendall(f"AUTH {layout.secrets['redis']}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    except OSError:
        return False


def s3(layout: Layout) -> bool:
    """Whether the bucket exists."""
    from s3fs import S3FileSystem

    env = layout.client_env()
    client = S3FileSystem(
        key=env["AWS_ACCESS_KEY_ID"],
        secret=env["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=env["AWS_ENDPOINT_URL"],
        client_kwargs={"region_name": env["AWS_DEFAULT_REGION"]},
        config_kwargs={"connect_timeout": TIMEOUT_S, "retries": {"max_attempts": 0}},
        skip_instance_cache=True,
    )
    client.retries = 1
    try:
        return bool(client.exists(BUCKET))
    except OSError:
        return False


def dask_scheduler(layout: Layout) -> bool:
    """Whether the scheduler listens."""
    return get_json(f"http://{LOOPBACK}:{layout.ports['dashboard']}/json/counts.json") is not None


def dask_workers(layout: Layout) -> bool:
    """Whether both workers are connected to the scheduler."""
    counts = get_json(f"http://{LOOPBACK}:{layout.ports['dashboard']}/json/counts.json")
    return counts is not None and counts["workers"] >= 2


def prefect_api(layout: Layout) -> bool:
    """Whether the API reaches its database."""
    return get_json(f"{layout.api_url}/ready") is not None


def prefect_services(layout: Layout) -> bool:
    """Whether an event passes from the API through Redis to the services and into Postgres."""
    auth_string = layout.client_env()["PREFECT_API_AUTH_STRING"]
    return events_pass(layout.api_url, auth_string, wait_s=3.0)


def prefect_worker(layout: Layout) -> bool:
    """Whether the worker polls for runs."""
    return get_json(f"http://{LOOPBACK}:{layout.ports['worker']}/health") is not None
