"""The environment, read in one place: the variables that this program knows, and the folders that it uses.

HOST_CACHE_DIR   compiled components (default: $XDG_CACHE_HOME/catalyst-host, ~/.cache/catalyst-host)
HOST_STATE_DIR   keys and the stored state (default: $XDG_STATE_HOME/catalyst-host, ~/.local/state/catalyst-host)
HOST_DATABASE    a database for the state, in place of a file there: postgresql://user@host/name
HOST_MASTER_KEY  the key that encrypts the other keys: 32 bytes in base64, in place of a keyring or a file. Of several,
                 with spaces between them, the first encrypts
HOST_COMPILE_TIME, HOST_COMPILE_CPU_TIME, HOST_COMPILE_MEMORY
                 what compiling a component may take: 120s, 60s and 4GiB by default
HOST_SECRETS     a file of NAME=VALUE lines: the last place to look for a secret
HOST_LIMITS      on a node of a cluster, the Redis in which a batch counts limits, where its URL has a password: that is
                 not sent to nodes
DOCKER_CONFIG    the folder of docker's config.json, for the credentials of registries (default: ~/.docker)
EDITOR, VISUAL   the editor of `host policy edit`
OTEL_…           the target of the server's traces, as OpenTelemetry defines it: one of OTEL_EXPORTER_OTLP_ENDPOINT,
                 OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and OTEL_TRACES_EXPORTER turns them on

RAY_ADDRESS      the Ray cluster of `host batch --engine ray`, as Ray has it. Ray's other variables are Ray's

Where such a batch starts a Ray of its own, RAY_… is set here so that it listens on the loopback interface alone, asks
for a token, and reports no usage. PROMETHEUS_MULTIPROC_DIR is set here for the server's workers, which count in the
files there.

HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, in either case, are not followed: an error about a connection names the one that
is set.

Paths in HOST_… may be relative; those of XDG_… that are relative count as unset, as their specification says. The home
directory is HOME, else that of the user's entry in the password file; a user may have neither, as in a container.

A secret given as `env:NAME` is read here too. Nothing else of the environment has any effect, except that the library
`keyring`, where it is installed, has a PYTHON_KEYRING_BACKEND of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from host.errors import InputError

# Where a user without a home directory has no folder either: nothing is there, and nothing can be made there.
NOWHERE: Final = Path(os.devnull) / "catalyst-host"


def cache_dir() -> Path:
    return _place("HOST_CACHE_DIR", "XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    return _place("HOST_STATE_DIR", "XDG_STATE_HOME", ".local/state")


def database() -> str | None:
    """The URL of the database, or None for a file in the state directory."""
    return os.environ.get("HOST_DATABASE") or None


def master_keys() -> tuple[str, ...]:
    return tuple(os.environ.get("HOST_MASTER_KEY", "").split())


def secrets_file() -> Path | None:
    given = os.environ.get("HOST_SECRETS")
    return _path("HOST_SECRETS", given) if given else None


def docker_config() -> Path:
    """docker's config.json, whether it is there or not."""
    given = os.environ.get("DOCKER_CONFIG")
    return (_path("DOCKER_CONFIG", given) if given else (home() or NOWHERE) / ".docker") / "config.json"


def editor() -> str | None:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or None


def optional(name: str) -> str | None:
    """The value of the variable `name`; None if it is unset or empty."""
    return os.environ.get(name) or None


def variable(name: str) -> str:
    """The value of the variable `name`. Raises InputError if it is unset or empty."""
    value = optional(name)
    if value is None:
        raise InputError(f"the environment variable {name} is not set", hint=f"export {name}=…, or name another source")
    return value


def traces_wanted() -> bool:
    """Whether OpenTelemetry's variables ask for traces (opentelemetry.io, SDK environment variables)."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
    return any(os.environ.get(name) for name in names)


def proxy_variable() -> str | None:
    """The name of the variable that asks programs to use a proxy; None where none is set."""
    names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    return next((name for name in names if os.environ.get(name)), None)


def metrics_dir() -> str | None:
    """Where the workers of one server count together; None where there is one process."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or None


def share_metrics(folder: Path) -> None:
    """Set the folder of metrics for this process and its children. To be called before any of them counts."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def for_children() -> dict[str, str]:
    """The environment for a child process (a compiler): enough to start, and nothing that changes its behaviour."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}


def limits() -> str | None:
    """The URL of the Redis that counts limits on this node of a cluster."""
    return os.environ.get("HOST_LIMITS") or None


def ray_address() -> str | None:
    return os.environ.get("RAY_ADDRESS") or None


def begin_own_ray(token: str) -> None:
    """Set what a Ray that this process starts goes by; where the operator has chosen how callers prove themselves, that
    stays. To be called before Ray is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on any system: nothing beyond the loopback interface
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = token


def home() -> Path | None:
    """The user's home directory, whether it is there or not; None for a user who has none."""
    import pwd  # noqa: PLC0415 - where HOME is unset

    given = os.environ.get("HOME")
    if not given:
        try:
            given = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:  # an id without an entry
            return None
    return Path(given) if Path(given).is_absolute() else None


def _place(own: str, xdg: str, below: str) -> Path:
    """The folder that the variable `own` names, else one in that of `xdg`, else one `below` the home directory; NOWHERE
    for a user who has none. Raises InputError."""
    if given := os.environ.get(own):
        return _path(own, given)
    base = Path(os.environ.get(xdg, ""))
    if base.is_absolute():
        return base / "catalyst-host"
    found = home()
    return NOWHERE if found is None else found / below / "catalyst-host"


def _path(variable: str, text: str) -> Path:
    """Raises InputError for a path below a home directory that is not known, or a working directory that has gone."""
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError):
        raise InputError(
            f"{variable}: {text!r} cannot be made an absolute path",
            field=variable,
            hint="a path that begins with / needs neither a home nor a working directory",
        ) from None
