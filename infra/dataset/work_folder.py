"""The work folder of a stage that runs in phases (``infra.compute.phases``)."""

from collections.abc import Callable
from contextlib import suppress

from infra.compute.processes import boot_id
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.manifest import FINGERPRINT_CHARS, DatasetNotFoundError
from infra.dataset.stage import Context, DatasetSpec
from infra.store.storage import Storage, StorageError

WORK_FOLDER = "work"  # below the storage root


def build_in_work_folder(
    ctx: Context, spec: DatasetSpec, partitioning: object, build: Callable[[Storage], Dataset]
) -> Dataset:
    """Build a data set with a work folder for its intermediate files; delete the folder afterwards.

    An interrupted run of the same data set on the same machine finds the folder again. After a
    restart of the machine it does not: the files are written without fsync.

    Args:
        ctx: the run.
        spec: the data set.
        partitioning: a JSON value; what the intermediate files depend on besides the fingerprint.
        build: called with the work folder; commits the data set.
    """
    parent = ctx.storage.subdir(WORK_FOLDER, spec.stage.name, spec.fingerprint[:FINGERPRINT_CHARS])
    work = parent.subdir(json_sha256([partitioning, boot_id()])[:FINGERPRINT_CHARS])
    try:
        data = build(work)
    except (OSError, StorageError):
        # Another run of the same recipe may have committed first and deleted the work folder.
        with suppress(DatasetNotFoundError):
            return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        raise
    parent.remove_tree()
    return data
