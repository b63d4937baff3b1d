"""Postgres of a stack: find its programs, and make its data folder."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

from infra.deploy.stack.layout import LOOPBACK, Layout
from infra.errors import UserError

# Debian's packages have no link in PATH, because several versions can be installed.
DEBIAN_FOLDERS = Path("/usr/lib/postgresql")
SETTINGS = [
    *("-c", f"listen_addresses={LOOPBACK}"),
    *("-c", "unix_socket_directories="),
    *("-c", "shared_buffers=32MB"),
    *("-c", "max_connections=60"),
]


def find_postgres(program: str) -> str:
    """Return the path of one of Postgres' programs.

    Raises:
        UserError: if it is not installed.
    """
    path = shutil.which(program)
    if path is not None:
        return path
    versions = [folder for folder in DEBIAN_FOLDERS.glob("*") if folder.name.isdigit()]
    for folder in sorted(versions, key=lambda folder: -int(folder.name)):
        if (folder / "bin" / program).exists():
            return str(folder / "bin" / program)
    raise UserError(f"{program} of PostgreSQL is not installed; run scripts/system-deps.sh as root")


def postgres_user() -> pwd.struct_passwd | None:
    """Return the user that Postgres runs as if it is not this one: it refuses to run as root.

    Raises:
        UserError: if this is root and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise UserError(
            "root cannot run PostgreSQL, and there is no user postgres; run scripts/system-deps.sh"
        ) from None


def open_folder(folder: Path) -> tuple[int, str]:
    """Open a folder for a process that this one starts, or becomes.

    The user ``postgres`` often cannot reach it by its path, because a folder above it is root's.

    Returns:
        The file descriptor, and the path by which the process finds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(descriptor, True)
    return descriptor, f"/proc/self/fd/{descriptor}"


def initialize_postgres(layout: Layout) -> None:
    """Make the data folder, and Prefect's database with its own user; nobody else can log in.

    Raises:
        UserError: if a program of Postgres fails; its output is above.
    """
    folder = layout.data("postgres")
    if folder.exists():
        return
    building = folder.with_suffix(".initdb")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    user = postgres_user()
    owner: dict[str, Any] = {}
    if user is not None:
        os.chown(building, user.pw_uid, user.pw_gid)
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    descriptor, data = open_folder(building)

    def run(program: str, *arguments: str, text: str = "") -> None:
        command = [find_postgres(program), *arguments]
        options: dict[str, Any] = {"cwd": "/", "pass_fds": [descriptor], **owner}
        result = subprocess.run(command, input=text.encode(), check=False, **options)
        if result.returncode != 0:
            raise UserError(f"{program} failed with status {result.returncode}")

    run("initdb", "-D", data, "--auth=reject", "--username=postgres", "-E", "UTF8", "--no-locale")
    login = f"host prefect prefect {LOOPBACK}/32 scram-sha-256\n"
    (building / "pg_hba.conf").write_text(login, encoding="ascii")
    run(
        "postgres",
        "--single",
        *("-c", "exit_on_error=on"),
        "-D",
        data,
        "postgres",
        text=f"CREATE ROLE prefect LOGIN PASSWORD '{layout.secrets['postgres']}'\n"
        "CREATE DATABASE prefect OWNER prefect\n",
    )
    os.close(descriptor)
    building.rename(folder)
