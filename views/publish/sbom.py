"""The software bill of materials of a released model: CycloneDX 1.6 in JSON.

A test validates it against the published schema. The library of CycloneDX has no model cards, so the document is
written as the specification has it (https://cyclonedx.org/docs/1.6/json/).
"""

import re
import uuid
from collections.abc import Mapping
from typing import Any

from views.publish.lineage import Provenance

NAMESPACE = uuid.UUID("7d2c2f0e-5d0c-5f0b-9d7b-0b6a6a3f1c11")  # of serial numbers
TASKS = {"causal": "text-generation", "seq2seq": "text2text-generation", "masked": "fill-mask"}


def make_sbom(provenance: Provenance, files: Mapping[str, str]) -> dict[str, Any]:
    """Describe a model, its data and the programs that made it.

    The same version and files give the same document, its serial number included.

    Args:
        provenance: what the model was made from.
        files: digests of the files of the model, by name.
    """
    version = provenance.version
    reference = f"model/{version.recipe}/{version.model}@{version.number}"
    data = [_data_component(provenance, name) for name in _source_names(provenance)]
    packages = [_package(name, number) for name, number in version.packages.items()]
    seed = f"{reference} {version.weights} {sorted(files.items())}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, seed)}",
        "version": 1,
        "metadata": {
            "timestamp": version.created,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "gristmill",
                        "version": version.packages.get("gristmill", "unknown"),
                    }
                ]
            },
            "component": _model(provenance, reference, files),
        },
        "components": [*data, *packages],
        "dependencies": [
            {"ref": reference, "dependsOn": [item["bom-ref"] for item in (*data, *packages)]},
            *({"ref": item["bom-ref"]} for item in (*data, *packages)),
        ],
    }


def _model(provenance: Provenance, reference: str, files: Mapping[str, str]) -> dict[str, Any]:
    version, stats = provenance.version, provenance.export.stats
    metrics = []
    for row in version.metrics:
        if row["value"] is None:
            continue
        metric: dict[str, Any] = {"type": row["name"], "value": f"{row['value']:g}"}
        if row["low"] is not None and row["high"] is not None:
            bounds = {"lowerBound": f"{row['low']:g}", "upperBound": f"{row['high']:g}"}
            metric["confidenceInterval"] = bounds
        metrics.append(metric)
    kind = str(stats.get("kind", "model"))
    return {
        "bom-ref": reference,
        "type": "machine-learning-model",
        "group": version.recipe,
        "name": version.model,
        "version": str(version.number),
        "hashes": [{"alg": "SHA-256", "content": version.weights}],
        "components": [
            {
                "bom-ref": f"file/{name}",
                "type": "file",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for name, digest in sorted(files.items())
        ],
        "modelCard": {
            "modelParameters": {
                "task": TASKS.get(kind, kind),
                "modelArchitecture": str(stats.get("format", kind)),
                "datasets": [{"ref": f"data/{name}"} for name in _source_names(provenance)],
            },
            "quantitativeAnalysis": {"performanceMetrics": metrics},
        },
    }


def _source_names(provenance: Provenance) -> list[str]:
    names = {data.source for data in provenance.datasets("documents") if data.source}
    return sorted(names)


def _data_component(provenance: Provenance, source: str) -> dict[str, Any]:
    acquired = [data for data in provenance.datasets("documents") if data.source == source]
    licenses = sorted(
        {
            str(value)
            for data in acquired[:1]  # the texts: the last stage that wrote them
            for part in data.parts
            for value in part.table(["license"])["license"].unique().to_pylist()
            if value
        }
    )
    contents = [
        {
            "type": "dataset",
            "name": f"{data.stage}/{data.source}",
            "contents": {
                "properties": [
                    {"name": "gristmill:documents", "value": str(data.counts.kept)},
                    {"name": "gristmill:fingerprint", "value": data.fingerprint},
                    {"name": "gristmill:content", "value": data.content},
                ]
            },
        }
        for data in acquired
    ]
    component: dict[str, Any] = {
        "bom-ref": f"data/{source}",
        "type": "data",
        "name": source,
        "data": contents,
    }
    if licenses:  # as the source states them: not all are SPDX identifiers
        component["licenses"] = [{"license": {"name": name}} for name in licenses]
    return component


def _package(name: str, version: str) -> dict[str, Any]:
    # A package URL has the name in lower case, with dashes (purl-spec, type pypi).
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
    return {"bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl}
