"""How machines run the platform."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator

from cluster.core.sections.base import Section, postgresql_url

LOOPBACK = "127.0.0.1"


class ClusterSection(Section):
    """How this machine runs the platform's Ray head and HTTP port."""

    host: str = LOOPBACK
    """Where others reach the service: an address of this machine, or 0.0.0.0 for all of them. There it speaks TLS, on
    `https_port`, and takes keys only (`trust.keys`, `serve.allowed_hosts`). Ray and `http_port` stay on loopback."""
    https_port: int = Field(8443, ge=1, le=65535)
    """Port of the same service for others, where `host` is not loopback."""
    tls_certificate: str = ""
    """File with certificate and key (PEM, mode 0600) for `https_port`; empty: the one that `plinth keys tls` made."""
    http_port: int = Field(8000, ge=1, le=65535)
    """Port of the OpenAI-compatible HTTP service and the chat page."""
    gcs_port: int = Field(6379, ge=1, le=65535)
    """Port of Ray's head service (RAY_ADDRESS)."""
    dashboard_port: int = Field(8265, ge=1, le=65535)
    """Port of the Ray dashboard and job submission."""
    cpus: int = Field(0, ge=0)
    """Logical CPUs Ray may schedule on; 0 means all this process may use."""
    heavy_jobs: int = Field(0, ge=0)
    """Heavy jobs (preparing, indexing, training) that run at once; more of them queue. 0: one for every 4 CPUs."""
    object_store_mb: int = Field(512, ge=80)
    """Size of Ray's shared-memory object store in MiB."""
    single_node: bool = True
    """One machine on loopback, as `plinth up` starts it; false on the nodes of `ray-cluster.yaml`."""
    tracking_uri: str = ""
    """Database of mlflow's mirror of runs and models, `postgresql://user@host/name` (empty: a SQLite file below
    PLINTH_HOME). No password here: `~/.pgpass` or PGPASSWORD of the head has it."""
    allow_other_ray: bool = False
    """Start although another Ray cluster runs on this machine (its ports must differ)."""
    supervise: bool = True
    """Watch what `plinth up` started, and put it up again within seconds when one of Ray's processes dies."""
    min_memory_mb: int = Field(3000, ge=0)
    """`plinth up` refuses to start with less available memory than this (MiB)."""
    min_disk_mb: int = Field(2000, ge=0)
    """`plinth up` and data jobs refuse to start with less free disk than this (MiB)."""

    @field_validator("host")
    @classmethod
    def _an_address(cls, host: str) -> str:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{host!r} is no address: write one of this machine's, or 0.0.0.0") from None
        return host

    @property
    def beyond_loopback(self) -> bool:
        """Whether others than this machine reach the service."""
        return not ipaddress.ip_address(self.host).is_loopback

    @field_validator("tracking_uri")
    @classmethod
    def _without_password(cls, uri: str) -> str:
        return postgresql_url(uri)
