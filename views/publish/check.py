"""Check a released folder: against its own digests, its signature, and the store."""

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from infra.dataset.dataset import try_open_dataset
from infra.registry.versions import Version, VersionNotFoundError, load_version
from infra.store.storage import Storage
from views.publish.folder import CARD, RECORD, SIGNATURE, SUMS, read_sums
from views.publish.signature import is_signature
from views.verify.verify import ERROR, WARNING, Finding, VerifyResult

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def check_folder(
    storage: Storage, recipe: str, folder: Storage, public_key: "Ed25519PublicKey | None" = None
) -> VerifyResult:
    """Check every file of a released folder.

    Args:
        storage: root of the store that it was released from.
        recipe: the recipe's name.
        folder: the released folder.
        public_key: of whoever must have signed it; without one, a signature is not checked.

    Raises:
        UserError: if it is no released folder.
    """
    digests = read_sums(folder)
    result = VerifyResult(datasets=1)
    names = set(folder.list_files()) - {SUMS, SIGNATURE}
    for name in sorted(names - digests.keys()):
        result.findings.append(Finding(ERROR, name, f"is not in {SUMS}"))
    for name, digest in digests.items():
        if name not in names:
            result.findings.append(Finding(ERROR, name, "missing"))
            continue
        with folder.open(name) as file:
            actual = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
        result.files += 1
        result.bytes += folder.size(name)
        if actual != digest:
            result.findings.append(Finding(ERROR, name, f"its SHA-256 is not that of {SUMS}"))
    result.findings += _check_signature(folder, public_key)
    result.findings += _check_against_store(storage, recipe, folder, digests)
    result.findings.sort(key=lambda item: (item.severity != ERROR, item.file, item.message))
    return result


def _check_signature(folder: Storage, public_key: "Ed25519PublicKey | None") -> Iterator[Finding]:
    signed = folder.exists(SIGNATURE)
    if public_key is None:
        what = "its signature was not checked: give --public-key" if signed else "it is not signed"
        yield Finding(WARNING, SIGNATURE, what)
    elif not signed:
        yield Finding(ERROR, SIGNATURE, "missing: the folder is not signed")
    elif not is_signature(public_key, folder.read(SIGNATURE), folder.read(SUMS)):
        yield Finding(ERROR, SIGNATURE, f"is not a signature of {SUMS} by this key")


def _check_against_store(
    storage: Storage, recipe: str, folder: Storage, digests: dict[str, str]
) -> Iterator[Finding]:
    """Compare with the registry's record and with the files of the export."""
    try:
        value: Any = json.loads(folder.read(RECORD))
        stated = Version.from_json(value["version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        yield Finding(ERROR, RECORD, "missing or damaged: what the folder holds is unknown")
        return
    if stated.recipe != recipe:
        yield Finding(ERROR, RECORD, f"is of the recipe {stated.recipe!r}, not of {recipe!r}")
        return
    try:
        registered = load_version(storage, recipe, stated.number)
    except VersionNotFoundError:
        yield Finding(ERROR, RECORD, f"version {stated.number} is not in the registry of {recipe}")
        return
    if registered.to_json() != json.loads(json.dumps(stated.to_json())):
        message = f"is not the registry's record of version {stated.number}"
        yield Finding(ERROR, RECORD, message)
        return
    export = try_open_dataset(storage, registered.export)
    if export is None:
        message = f"{registered.export} is not in the store: its files were not compared"
        yield Finding(WARNING, RECORD, message)
        return
    for file in export.manifest.files.values():
        if file.name != CARD and digests.get(file.name) != file.sha256:
            yield Finding(ERROR, file.name, f"is not the file of {registered.export}")
