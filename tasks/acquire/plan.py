"""What an acquisition from files is made of: the same shape for every kind of source.

A kind's module has ``plan(source) -> Plan``, which looks at the files' bytes and at nothing else:
two stores, hosts or paths with equal files give equal plans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from infra.fingerprint import digest
from infra.stage import Outcome, Spec, Stage, Unit
from infra.storage import expand, open_url

_CHUNK = 1 << 20
UNREADABLE = "unreadable"
"""The digest of a file that cannot be read; it becomes a counted failure, not an end of the run."""


@dataclass(frozen=True)
class Plan:
    """How a source is acquired.

    Attributes:
        stage: name and code of the kind's acquisition.
        config: what, besides the files' bytes, decides the result; JSON values.
        units: one per file, in the order of their parts.
        function: module-level; called with a unit's payload.
    """

    stage: Stage
    config: Mapping[str, Any]
    units: tuple[Unit, ...]
    function: Callable[..., Iterable[Outcome]]


@dataclass(frozen=True)
class FileSpec(Spec):
    """A data set made from files.

    The files are part of its fingerprint, but not of the configuration that names the receipts of
    its parts: with one file more, the others are not read again.

    Attributes:
        plan: how it is made.
    """

    plan: Plan | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of stage, source, code, configuration and the keys of all files."""
        return digest(
            {
                "stage": self.stage.name,
                "source": self.source,
                "code": self.stage.code,
                "config": self.config,
                "files": [unit.key for unit in self.plan.units] if self.plan else [],
            }
        )


@dataclass(frozen=True)
class InputFile:
    """A user's file.

    Attributes:
        url: where it is.
        digest: SHA-256 of its bytes, or ``UNREADABLE``.
    """

    url: str
    digest: str

    @property
    def name(self) -> str:
        """Its base name: the only part of its place that may show in data."""
        return PurePosixPath(self.url).name


def files(paths: Iterable[str]) -> list[InputFile]:
    """The files that paths, globs and URLs name, each once, by base name, with their digests.

    Raises:
        StorageError: if a pattern matches nothing.
    """
    return [InputFile(url, _digest(url)) for url in expand(list(paths))]


def _digest(url: str) -> str:
    hasher = hashlib.sha256()
    try:
        with open_url(url) as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
    except OSError:
        return UNREADABLE
    return hasher.hexdigest()
