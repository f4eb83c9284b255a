"""Kubernetes: Kubeflow Trainer's TrainJob, or without it an indexed Job with a headless Service."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline import Problem

from .submit import program, run_and_read


def image_problems(field: str, image: str | None) -> list[Problem]:
    """Why this is no name of a container image."""
    if image is None or re.fullmatch(r"[A-Za-z0-9][\w./:@-]*", image):
        return []
    return [Problem(field, repr(image), "must be an image: HOST/NAME:TAG")]


@dataclass
class KubernetesConfig:
    """Kubernetes' own options."""

    kind: Literal["trainjob", "job"] = "trainjob"
    """trainjob for clusters with Kubeflow Trainer; job for any other."""
    image: str = "registry.example.org/acn-lm:latest"
    """Image that has acn-lm installed, see Dockerfile."""
    volume: str = "shared"
    """PersistentVolumeClaim (ReadWriteMany), mounted at /shared, for data and runs."""
    namespace: str = "default"
    """Namespace."""
    cpus: int = 32
    """CPU cores of a node."""
    memory: str = "256Gi"
    """Memory of a node."""
    stop_seconds: int = 300
    """How long a pod that is evicted may take for a last checkpoint."""

    @property
    def template(self) -> str:
        """The manifest."""
        return f"{self.kind}.yaml"

    def problems(self, nodes: int) -> list[Problem]:
        name = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        found = [
            Problem(
                f"kubernetes.{field}", repr(getattr(self, field)), "must be a name of lower-case letters, digits and -"
            )
            for field in ("volume", "namespace")
            if not re.fullmatch(name, getattr(self, field))
        ]
        found += image_problems("kubernetes.image", self.image)
        if self.cpus < 1:
            found.append(Problem("kubernetes.cpus", self.cpus, "must be at least 1"))
        if not re.fullmatch(r"\d+(\.\d+)?([KMGT]i?)?", self.memory):
            found.append(Problem("kubernetes.memory", repr(self.memory), "must be a quantity of Kubernetes: 256Gi"))
        if self.stop_seconds < 60:
            found.append(Problem("kubernetes.stop_seconds", self.stop_seconds, "must be at least 60"))
        return found

    def submit(self, script: Path) -> str:
        """Hand the manifest to the cluster; what kubectl said."""
        kubectl = program("kubectl", "install it and choose the cluster: kubectl config use-context NAME")
        return run_and_read([kubectl, "apply", "-f", str(script)])
