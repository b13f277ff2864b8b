"""What `hearth check` looks at of one Compose service, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.check.findings import Place
from router.check.located import Located
from router.quantities import parse_duration

#: What Docker gives a container to stop when nothing is said, seconds.
DEFAULT_GRACE = 10.0
_NAMESPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode")


@dataclass(frozen=True, slots=True)
class Mount:
    """kind: bind, volume or tmpfs. source: a path on the host, or a volume's name; None for one without a name."""

    kind: str
    source: str | None
    target: str
    read_only: bool

    def holds(self, path: str) -> bool:
        """Whether `path` in the container lies on it."""
        return path == self.target or path.startswith(self.target.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class Port:
    """A port published on the host. host_ip: empty is all addresses."""

    host_ip: str
    published: str
    target: str


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Docker's own. Times in seconds; test: with Docker's CMD or CMD-SHELL in front, empty when there is none."""

    test: tuple[str, ...]
    start_period: float


@dataclass(frozen=True, slots=True)
class Service:
    """entrypoint: None is the image's own. networks: by name, the further names of the service there."""

    name: str
    place: Place
    places: Mapping[str, Place]
    container_name: str | None
    image: str | None
    build: Mapping[str, Any] | None
    pull_policy: str | None
    entrypoint: tuple[str, ...] | None
    command: tuple[str, ...]
    environment: Mapping[str, str | None]
    mounts: tuple[Mount, ...]
    ports: tuple[Port, ...]
    networks: Mapping[str, tuple[str, ...]]
    network_mode: str | None
    host_namespaces: tuple[str, ...]
    profiles: tuple[str, ...]
    restart: str
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    security_opt: tuple[str, ...]
    privileged: bool
    read_only: bool
    init: bool
    gpu: bool
    rotates_log: bool
    healthcheck: Healthcheck
    stop_grace_period: float

    def at(self, key: str) -> str:
        """Where `key` is written, or the service when it is not."""
        return str(self.places.get(key, self.place))

    def volume_of(self, path: str) -> Mount | None:
        """The mount that `path` in the container lies on, the innermost one."""
        holding = [mount for mount in self.mounts if mount.kind != "tmpfs" and mount.holds(path)]
        return max(holding, key=lambda mount: len(mount.target), default=None)


def service(name: str, form: Located) -> Service:
    """From the canonical form of compose_syntax. Raises ValueError for times that make no sense."""

    def texts(key: str) -> tuple[str, ...]:
        return tuple(form.get(key) or ())

    entrypoint = form.get("entrypoint")
    return Service(
        name=name,
        place=form.place,
        places=form.places,
        container_name=_text_or_none(form.get("container_name")),
        image=_text_or_none(form.get("image")),
        build=form.get("build"),
        pull_policy=_text_or_none(form.get("pull_policy")),
        entrypoint=None if entrypoint is None else tuple(entrypoint),
        command=texts("command"),
        environment=form.get("environment") or {},
        mounts=tuple(
            Mount(item["type"], item["source"], item["target"], item["read_only"])
            for item in (form.get("volumes") or {}).values()
        ),
        ports=tuple(Port(**item) for item in form.get("ports") or ()),
        networks=_networks(form),
        network_mode=_text_or_none(form.get("network_mode")),
        host_namespaces=tuple(key for key in _NAMESPACES if form.get(key) == "host"),
        profiles=texts("profiles"),
        restart=str(form.get("restart") or "no"),
        cap_add=texts("cap_add"),
        cap_drop=texts("cap_drop"),
        security_opt=texts("security_opt"),
        privileged=bool(form.get("privileged")),
        read_only=bool(form.get("read_only")),
        init=bool(form.get("init")),
        gpu=_reserves_gpu(form),
        rotates_log=_rotates_log(form.get("logging")),
        healthcheck=_healthcheck(form.get("healthcheck") or {}),
        stop_grace_period=_seconds(form.get("stop_grace_period"), DEFAULT_GRACE),
    )


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _networks(form: Located) -> dict[str, tuple[str, ...]]:
    if form.get("network_mode"):
        return {}
    networks = form.get("networks") or {"default": {}}
    return {name: tuple((options or {}).get("aliases") or ()) for name, options in networks.items()}


def _reserves_gpu(form: Located) -> bool:
    resources = ((form.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    devices = resources.get("devices") or []
    return bool(form.get("gpus")) or any("gpu" in (device.get("capabilities") or []) for device in devices)


def _rotates_log(logging: object) -> bool:
    if not isinstance(logging, Mapping):
        return False
    keeps_all = ("json-file", None)  # Docker's own default has no limit either
    return logging.get("driver") not in keeps_all or "max-size" in (logging.get("options") or {})


def _healthcheck(form: Mapping[str, Any]) -> Healthcheck:
    test = tuple(str(word) for word in form.get("test") or ())
    off = bool(form.get("disable")) or test[:1] == ("NONE",)
    return Healthcheck(() if off else test, _seconds(form.get("start_period"), 0.0))


def _seconds(value: object, default: float) -> float:
    return default if value is None else parse_duration(value)
