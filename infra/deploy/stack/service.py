"""One service of a stack, as supervisord starts it: wait for what it needs, then become it.

Usage: ``python -m infra.deploy.stack.service NAME FOLDER``.
"""

import os
import signal
import sys
import time
from pathlib import Path

from infra.compute.processes import die_with_parent
from infra.deploy.stack.layout import load_layout
from infra.deploy.stack.postgres import open_folder, postgres_user
from infra.deploy.stack.services import find_service
from infra.errors import UserError

POLL_INTERVAL_S = 0.3  # between two looks at what a service waits for


def main(name: str, folder: str) -> None:
    """Replace this process by a service."""
    layout = load_layout(Path(folder))
    service = find_service(name)
    for needed in map(find_service, service.after):
        while not needed.is_ready(layout):
            time.sleep(POLL_INTERVAL_S)
    service.prepare(layout)
    command = service.command(layout)
    env = {**os.environ, **service.env(layout)}
    user = postgres_user() if service.as_postgres else None
    if user is not None:
        folder = str(layout.data(name))
        _, reachable = open_folder(Path(folder))
        command = [reachable if item == folder else item for item in command]
        os.chdir("/")
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    # After the change of user, which resets it. If supervisord is killed, nothing it started remains.
    die_with_parent(signal.Signals[f"SIG{service.stop_signal}"])
    os.execve(command[0], command, env)  # noqa: S606 - supervisord watches this process


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
