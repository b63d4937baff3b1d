"""The recipe's section `cluster`: what a recipe may choose of it, and what only the machine may.

A recipe is the parameter of a deployment, so whoever may start a run writes it. It names a kind of
cluster and sizes. Commands, images, environments and preloaded modules come from Dask's configuration
of the machine that runs the flow (https://docs.dask.org/en/stable/configuration.html).
"""

import os
import re
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from infra.config import ConfigModel
from infra.sizes import parse_size

CLUSTER_CLASSES = frozenset(
    {
        "distributed.LocalCluster",
        "dask_kubernetes.operator.KubeCluster",
        *(
            f"dask_jobqueue.{name}Cluster"
            for name in ("HTCondor", "LSF", "Moab", "OAR", "PBS", "SGE", "SLURM")
        ),
        *(f"dask_cloudprovider.aws.{name}Cluster" for name in ("EC2", "ECS", "Fargate")),
        "dask_cloudprovider.azure.AzureVMCluster",
        "dask_cloudprovider.gcp.GCPCluster",
    }
)
CLUSTER_KWARGS = frozenset(
    "name namespace n_workers threads_per_worker processes cores memory memory_limit resources queue "
    "project account walltime region zone instance_type machine_type vm_size worker_cpu worker_mem "
    "worker_gpu scheduler_cpu scheduler_mem shutdown_on_close".split()
)
# Further classes and arguments that recipes may name on this machine, separated by commas; and the
# schedulers on other machines that runs of deployments may use.
CLASSES_ENV, KWARGS_ENV = "GRISTMILL_CLUSTER_CLASSES", "GRISTMILL_CLUSTER_KWARGS"
SCHEDULERS_ENV = "GRISTMILL_SCHEDULERS"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A worker that has imported the stages takes 220 MiB, and Dask kills it before it reaches its limit.
MIN_WORKER_MEMORY = 512 << 20
# A line break in a batch queue's name would add a line to its job script.
_PLAIN_TEXT = re.compile(r"[\w .:/@+=-]*")


class ClusterConfig(ConfigModel):
    """Where units of work are computed: on this machine by default."""

    workers: int | None = Field(
        None,
        ge=0,
        description="local worker processes; 0 runs in this process; default: one per core, if the memory suffices",
    )
    memory_limit: str | None = Field(
        None,
        description="memory limit per local worker, such as 4GiB; default: an equal fraction of 80 % of the memory",
    )
    address: str | None = Field(
        None,
        description="address of a running Dask scheduler that you trust: it can run code here",
    )
    cluster_class: str | None = Field(
        None, description="dotted name of a Dask cluster class to start; docs/operate.md lists them"
    )
    cluster_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="arguments of that class: names and sizes"
    )

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit per local worker."""
        if self.memory_limit is None:
            return None
        return parse_size(self.memory_limit)

    @model_validator(mode="after")
    def _check_exclusive(self) -> Self:
        ways = ("workers", "address", "cluster_class")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"give one of workers, address and cluster_class, not {' and '.join(given)}"
            )
        if self.cluster_kwargs and self.cluster_class is None:
            raise ValueError("cluster_kwargs belong to cluster_class, which is missing")
        return self

    @model_validator(mode="after")
    def _check_class(self) -> Self:
        allowed = CLUSTER_CLASSES | _names(CLASSES_ENV)
        if self.cluster_class is not None and self.cluster_class not in allowed:
            raise ValueError(
                f"cluster_class {self.cluster_class!r} is not one that a recipe may start: "
                f"{', '.join(sorted(allowed))}. Whoever operates this machine can add it to {CLASSES_ENV}"
            )
        for name, value in self.cluster_kwargs.items():
            if name not in CLUSTER_KWARGS | _names(KWARGS_ENV):
                raise ValueError(
                    f"cluster_kwargs.{name} is not an argument that a recipe may give. Set it in Dask's "
                    f"configuration of this machine, or add it to {KWARGS_ENV} there"
                )
            if name in CLUSTER_KWARGS:
                _check_plain(f"cluster_kwargs.{name}", value)
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
        try:
            size = self.memory_bytes
        except ValidationError:
            raise ValueError(
                f"memory_limit {self.memory_limit!r} is not a size such as 4GiB"
            ) from None
        if size is not None and size < MIN_WORKER_MEMORY:
            raise ValueError(
                f"memory_limit {self.memory_limit}: a worker needs {MIN_WORKER_MEMORY >> 20}MiB "
                "before it holds any data; give more, or set workers to 0 to run in this process"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether the address is one of this machine only."""
        return self.address is not None and urlsplit(self.address).hostname in LOOPBACK

    @property
    def is_trusted(self) -> bool:
        """Whether a recipe that somebody else may have written may use this cluster."""
        return self.address is None or self.is_loopback or self.address in _names(SCHEDULERS_ENV)


def _names(variable: str) -> frozenset[str]:
    """Read the names in an environment variable of this machine."""
    return frozenset(filter(None, map(str.strip, os.environ.get(variable, "").split(","))))


def _check_plain(where: str, value: Any) -> None:
    """Raise ``ValueError`` unless a value is a number, a plain text, or a mapping of such."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(where, key)
            _check_plain(where, item)
    elif isinstance(value, str):
        if not _PLAIN_TEXT.fullmatch(value):
            raise ValueError(
                f"{where}: {value!r} holds characters other than letters, digits and .:/@+=-"
            )
    elif not isinstance(value, int | float | None):
        raise ValueError(f"{where}: a number or a text is expected, not {value!r}")  # noqa: TRY004
