"""Make the secrets and folders of a deployment in containers, each once.

Usage: ``python -m infra.deploy.prepare FOLDER``. Every secret is a file; one that is named like an
environment variable is set as that variable in the containers that mount it (``image/entrypoint.sh``).
"""

import json
import os
import secrets
from pathlib import Path

import click

from infra.deploy.stack.credentials import write_certificates, write_private

DATA_FOLDERS = ("postgres", "redis", "s3", "cache")
CONTAINER_UID = 10001  # for root, whose containers must not be root


def write_container_secrets(folder: Path) -> None:
    """Write the files that are missing.

    Args:
        folder: where ``NAME`` holds the variable ``NAME``, and ``dask-*.pem`` the certificates of Dask.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(name: str, content: str) -> str:
        write_private(folder / name, content.encode())
        return (folder / name).read_text(encoding="ascii")

    def password(name: str) -> str:
        return write(name, secrets.token_hex(24))

    postgres, redis, prefect = map(password, ("postgres", "redis", "prefect"))
    write("PREFECT_SERVER_API_AUTH_STRING", f"gristmill:{prefect}")
    write("PREFECT_API_AUTH_STRING", f"gristmill:{prefect}")
    write(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
        f"postgresql+asyncpg://prefect:{postgres}@postgres:5432/prefect",
    )
    write("PREFECT_REDIS_MESSAGING_URL", f"redis://:{redis}@redis:6379/0")
    write("PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL", f"redis://:{redis}@redis:6379/0")
    write("PREFECT_SERVER_DOCKET_URL", f"redis://:{redis}@redis:6379/1")
    write("AWS_ACCESS_KEY_ID", "gristmill")
    password("AWS_SECRET_ACCESS_KEY")
    # Without keys of their own, SeaweedFS' inner servers give every file to whoever reaches their ports.
    signing = password("signing")
    for name in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ"):
        write(f"WEED_JWT_{name}_KEY", signing)
    tls = folder / "tls"
    tls.mkdir(mode=0o700, exist_ok=True)
    write_certificates(tls, "127.0.0.1")
    for name in ("ca", "cert", "key"):
        write(f"dask-{name}.pem", (tls / f"{name}.pem").read_text(encoding="ascii"))


def prepare(folder: Path) -> dict[str, str]:
    """Make secrets, data folders and the file ``.env`` of Compose; return what ``.env`` sets."""
    write_container_secrets(folder / "secrets")
    owner = (os.getuid(), os.getgid()) if os.getuid() else (CONTAINER_UID, CONTAINER_UID)
    for name in DATA_FOLDERS:
        (folder / "data" / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.getuid() == 0:
        for path in (
            folder / "secrets",
            folder / "data",
            *folder.glob("secrets/**/*"),
            *folder.glob("data/*"),
        ):
            os.chown(path, *owner)
    values = {
        "GRISTMILL_UID": str(owner[0]),
        "GRISTMILL_GID": str(owner[1]),
        "GRISTMILL_FOLDER": str(folder.absolute()),
    }
    lines = [f"{name}={value}\n" for name, value in values.items()]
    (folder / ".env").write_text("".join(lines), encoding="utf-8")
    return values


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def main(folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Make the secrets and folders of a deployment in containers."""
    try:
        values = prepare(folder)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(json.dumps(values) if as_json else f"{folder}: secrets/, data/ and .env are ready")


if __name__ == "__main__":
    main()
