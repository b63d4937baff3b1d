"""Comparing data sets whose parts may have been made for another one."""

from dataclasses import replace

from infra.dataset.dataset import Dataset


def manifest_without_locations(data: Dataset) -> bytes:
    """The manifest as if every part had been made for this data set."""
    parts = [
        replace(
            part,
            folder=None,
            files={
                suffix: replace(file, name=f"part-{part.name}.{suffix}")
                for suffix, file in part.files.items()
            },
        )
        for part in data.manifest.parts
    ]
    return replace(data.manifest, parts=parts).to_bytes()
