"""What the Dockerfile, the compose file and the manifests say, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from places import ROOT

CONTAINER = ROOT / "container"
DOCKERFILE = CONTAINER / "Dockerfile"
COMMON = CONTAINER / "kubernetes/common.yaml"
WORKLOADS = ("sidecar-job.yaml", "separate-pod.yaml")

Yaml = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod of a workload; `clipwatch` is its container of that name."""

    metadata: Yaml
    spec: Yaml

    @property
    def clipwatch(self) -> Yaml:
        """The container, wherever it stands."""
        return next(one for one in self.containers if one["name"] == "clipwatch")

    @property
    def containers(self) -> list[Yaml]:
        """All of them, the native sidecars first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def environ(self) -> dict[str, str]:
        """What clipwatch finds in its environment: the image's, and the manifest's over it."""
        return image_environ() | {one["name"]: one["value"] for one in self.clipwatch["env"]}


def documents(file: Path) -> list[Yaml]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(file.read_text()))


def pod(workload: str) -> Pod:
    """Return the pod that a manifest of WORKLOADS makes."""
    (document,) = documents(CONTAINER / "kubernetes" / workload)
    template = document["spec"]["template"]
    return Pod(template["metadata"], template["spec"])


def compose() -> dict[str, Yaml]:
    """Return the services of the compose file."""
    (document,) = documents(CONTAINER / "compose.yaml")
    services: dict[str, Yaml] = document["services"]
    return services


def image_environ() -> dict[str, str]:
    """Return the variables that the Dockerfile sets."""
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert block
    return dict(pair.split("=", 1) for pair in block[1].replace("\\\n", " ").split())


def own_settings(environ: dict[str, str]) -> dict[str, str]:
    """Return which of the variables are meant as settings of clipwatch, by their keys."""
    prefix = "CLIPWATCH_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environ.items()
        if name.startswith(prefix) and name != "CLIPWATCH_CONFIG"
    }
