"""Write a registered model as a folder for others: files, card, bill of materials, signed digests."""

import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import LOGS, IntegrityError
from infra.dataset.step import Steps
from infra.errors import UserError
from infra.registry.versions import Version
from infra.store.storage import Storage
from views.publish.card import Prices, extend_card
from views.publish.lineage import trace_provenance
from views.publish.sbom import make_sbom
from views.publish.signature import Signer
from views.removal.apply import refresh_exposure

CARD, SBOM, RECORD = "README.md", "sbom.cdx.json", "release.json"
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
FORMAT_VERSION = 1


class FolderExistsError(UserError):
    """The folder to write already holds files."""


@dataclass(frozen=True)
class Published:
    """What was written.

    Attributes:
        url: of the folder.
        files: digests by name.
        signed_by: digest of the public key; ``None`` if it is not signed.
    """

    url: str
    files: Mapping[str, str]
    signed_by: str | None


def publish(
    storage: Storage,
    version: Version,
    target: str,
    steps: Steps,
    *,
    signer: Signer | None = None,
    prices: Prices | None = None,
) -> Published:
    """Write a version's folder. It appears as a whole: in an object store, the digests come last.

    Args:
        storage: root of the store.
        version: of the registry.
        target: folder or URL that does not exist yet, or is empty.
        steps: the pipeline.
        signer: signs the digests; ``None`` leaves the folder unsigned.
        prices: of electricity, for the card.

    Raises:
        FolderExistsError: if the folder holds files.
        DatasetNotFoundError: if the model's export was deleted.
        IntegrityError: if a file is not the one that was committed.
    """
    destination = Storage(target)
    _require_empty(destination)
    provenance = trace_provenance(storage, version, steps)
    exposures = {item.path: item for item in refresh_exposure(storage, version.recipe, steps)}
    with tempfile.TemporaryDirectory(prefix="gristmill-publish-") as scratch:
        folder = Path(scratch)
        model_files = _copy_export(provenance.export, folder)
        card = (folder / CARD).read_text(encoding="utf-8")
        exposure = exposures.get(version.trained)
        card = extend_card(card, provenance, exposure, prices or Prices())
        (folder / CARD).write_text(card, encoding="utf-8")
        del model_files[CARD]
        _write_json(folder / SBOM, make_sbom(provenance, model_files))
        signed_by = None if signer is None else signer.fingerprint
        record = {"format": FORMAT_VERSION, "signed_by": signed_by, "files": model_files}
        _write_json(folder / RECORD, {**record, "version": version.to_json()})
        digests = {
            path.relative_to(folder).as_posix(): _sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
        if signer is not None:
            (folder / SIGNATURE).write_bytes(signer.sign(sums))
        (folder / SUMS).write_bytes(sums)
        with _place(destination) as draft:
            for path in sorted(folder.rglob("*"), key=lambda item: item.name == SUMS):
                if path.is_file():
                    draft.upload(path, path.relative_to(folder).as_posix())
    return Published(target, digests, signed_by)


def read_sums(folder: Storage) -> dict[str, str]:
    """Return the digests that a released folder states, by file.

    Raises:
        UserError: if the folder has none, or they cannot be read.
    """
    try:
        text = folder.read(SUMS).decode()
    except FileNotFoundError:
        raise UserError(
            f"{folder.url} has no {SUMS}: it is no folder of `gristmill release`"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{folder.url}/{SUMS} is damaged") from None
    digests = {}
    for line in text.splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise UserError(f"{folder.url}/{SUMS} is damaged: {line[:80]!r}")
        digests[name] = digest
    return digests


def _require_empty(destination: Storage) -> None:
    names = destination.list_files()
    # What an interrupted release to an object store left has no digests yet, and is written again.
    if names and (destination.is_local or SUMS in names):
        raise FolderExistsError(
            f"{destination.url} holds files already ({names[0]}); name a folder that does not exist"
        )


def _copy_export(export: Dataset, folder: Path) -> dict[str, str]:
    """Download the export's files and check them; return their digests by name."""
    digests = {}
    for file in export.manifest.files.values():
        if file.name.startswith(LOGS):
            continue
        path = folder / file.name
        export.storage.download(file.name, path)
        digests[file.name] = _sha256(path)
        if digests[file.name] != file.sha256:
            raise IntegrityError(
                f"{export.storage.url}/{file.name} is not the file that was committed; run gristmill verify"
            )
    return digests


@contextmanager
def _place(destination: Storage) -> Iterator[Storage]:
    """Give a folder to write to, and make it the destination if the block ends without an error."""
    local = destination.local_path()
    if local is None:
        yield destination
        return
    draft = local.parent / f".tmp-{local.name}-{secrets.token_hex(4)}"
    try:
        yield Storage(str(draft))
        if local.exists():
            local.rmdir()  # it is empty
        draft.replace(local)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
