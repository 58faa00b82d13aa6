"""How a pool's own Prometheus and Grafana are set up (`pool up --monitoring`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt

from swarm_runner.model.text import FrozenModel, Image, Text

SecretName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?$")]


class Monitoring(FrozenModel):
    """The monitoring services: their images, and how they are reached."""

    prometheus_image: Image = Field(
        "prom/prometheus:v3.5.0",
        description="the image of Prometheus; its entrypoint takes Prometheus's options",
    )
    prometheus_port: StrictInt | None = Field(
        None,
        ge=1,
        le=65535,
        description="publishes Prometheus on its node, without a login; not published when absent",
    )
    retention_days: StrictInt = Field(
        15, ge=1, le=3650, description="for how many days Prometheus keeps what it read"
    )
    alertmanagers: tuple[Text, ...] = Field(
        (), max_length=10, description="the host:port of each Alertmanager that gets the alerts"
    )
    grafana_image: Image = Field("grafana/grafana:12.1.0", description="the image of Grafana")
    grafana_port: StrictInt = Field(
        3000, ge=1, le=65535, description="publishes Grafana on its node, behind its login"
    )
    grafana_password_secret: SecretName | None = Field(
        None,
        description="a Swarm secret with the password of Grafana's user admin; without it, there "
        "is no Grafana",
    )
