"""
How Consul is reached: one frozen record, from a URL or from the CONSUL_ variables.

The variables mean what they mean to Consul's own tools (hashicorp/consul api.DefaultConfig):
CONSUL_HTTP_ADDR may carry a scheme, which CONSUL_HTTP_SSL can turn to https, a token file beats a
token, and an address without a port uses its scheme's own (80, 443), not 8500.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from discovery.errors import DiscoveryError

OPTIONS = frozenset({"dc", "namespace", "scheme", "stale", "token", "wait"})


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Where the agent is and who asks it; `origin` is scheme://host:port, `socket` a unix socket.

    `wait` is how many seconds a blocking query may block, `max_stale` how many seconds behind the
    leader a server's answer may be before the leader is asked, `settle` for how many seconds after
    an outage endpoints that are missing from the answers are kept, `slack` how many seconds an
    answer may take that does not block.
    """

    origin: str = "http://127.0.0.1:8500"
    socket: str = ""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    datacenter: str = ""
    namespace: str = ""
    verify: bool = True
    ca_file: str = ""
    ca_path: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    stale: bool = True
    wait: float = 60.0
    max_stale: float = 10.0
    settle: float = 10.0
    slack: float = 5.0

    @property
    def shown(self) -> str:
        """The address without secrets, for messages."""
        return f"unix://{self.socket}" if self.socket else self.origin

    def current_token(self) -> str:
        """The token; a token file is read anew, so that it can be replaced while running."""
        if not self.token_file:
            return self.token
        try:
            token = Path(self.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DiscoveryError(f"CONSUL_HTTP_TOKEN_FILE {self.token_file!r}: {error}") from error
        if not token:
            raise DiscoveryError(f"CONSUL_HTTP_TOKEN_FILE {self.token_file!r} is empty")
        return token

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, None for plain http."""
        if not self.origin.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(
                cafile=self.ca_file or None, capath=self.ca_path or None
            )
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
        except OSError as error:  # ssl.SSLError is one too
            named = ", ".join(
                f"{variable}={value!r}"
                for variable, value in (
                    ("CONSUL_CACERT", self.ca_file),
                    ("CONSUL_CAPATH", self.ca_path),
                    ("CONSUL_CLIENT_CERT", self.certificate),
                    ("CONSUL_CLIENT_KEY", self.key),
                )
                if value
            )
            raise DiscoveryError(f"TLS to Consul with {named}: {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def from_url(url: str, parts: SplitResult, port: int | None, *, token: str = "") -> Settings:
    """consul://host:port?dc=&token=&scheme=https&stale=0&wait=60; a path is not the registry's."""
    if not parts.hostname:
        raise DiscoveryError(f"registry {url!r}: names no host")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    for name in sorted(options.keys() - OPTIONS):
        raise DiscoveryError(
            f"registry {url!r}: {name!r} is not one of {', '.join(sorted(OPTIONS))}"
        )
    scheme = options.get("scheme", "http")
    if scheme not in ("http", "https"):
        raise DiscoveryError(f"registry {url!r}: scheme {scheme!r} is not http or https")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Settings(
        origin=f"{scheme}://{host}:{8500 if port is None else port}",
        token=token or options.get("token", ""),
        datacenter=options.get("dc", ""),
        namespace=options.get("namespace", ""),
        stale=options.get("stale", "1") not in ("0", "false"),
        wait=_seconds(url, options.get("wait", "60")),
    )


def from_variables(environ: Mapping[str, str], *, url: str = "") -> Settings:
    """
    The settings of the environment; `url` (MESH_REGISTRY) says the address if it is not empty.

    Every message names the variable and its value, except for secrets.
    """
    if url:
        try:
            parts = urlsplit(url)
            settings = from_url(url, parts, parts.port)
        except (DiscoveryError, ValueError) as error:
            raise DiscoveryError(f"MESH_REGISTRY: {error}") from error
    else:
        settings = _address(environ.get("CONSUL_HTTP_ADDR", ""))
    if _truth(environ, "CONSUL_HTTP_SSL", default=False):
        if settings.socket:
            raise DiscoveryError(
                f"CONSUL_HTTP_SSL {environ['CONSUL_HTTP_SSL']!r}: a unix socket"
                f" (CONSUL_HTTP_ADDR {environ['CONSUL_HTTP_ADDR']!r}) is spoken to without TLS"
            )
        settings = replace(settings, origin=settings.origin.replace("http://", "https://", 1))
    username, _, password = environ.get("CONSUL_HTTP_AUTH", "").partition(":")
    return replace(
        settings,
        token=settings.token or environ.get("CONSUL_HTTP_TOKEN", ""),
        token_file="" if settings.token else environ.get("CONSUL_HTTP_TOKEN_FILE", ""),
        username=username,
        password=password,
        namespace=settings.namespace or environ.get("CONSUL_NAMESPACE", ""),
        verify=_truth(environ, "CONSUL_HTTP_SSL_VERIFY", default=True),
        ca_file=environ.get("CONSUL_CACERT", ""),
        ca_path=environ.get("CONSUL_CAPATH", ""),
        certificate=environ.get("CONSUL_CLIENT_CERT", ""),
        key=environ.get("CONSUL_CLIENT_KEY", ""),
        server_name=environ.get("CONSUL_TLS_SERVER_NAME", ""),
    )


def _address(address: str) -> Settings:
    if not address:
        return Settings()
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "http", address
    if scheme == "unix":
        return Settings(origin="http://localhost", socket=rest)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError as error:
        raise DiscoveryError(f"CONSUL_HTTP_ADDR {address!r}: {error}") from error
    if scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise DiscoveryError(
            f"CONSUL_HTTP_ADDR {address!r} is not host:port, http[s]://host:port or unix://path"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    where = host if port is None else f"{host}:{port}"
    return Settings(origin=f"{scheme}://{where}{parts.path.rstrip('/')}")


def _truth(environ: Mapping[str, str], variable: str, *, default: bool) -> bool:
    value = environ.get(variable, "")
    if not value:
        return default
    # What Go's strconv.ParseBool takes.
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise DiscoveryError(f"{variable} {value!r} is neither true nor false")


def _seconds(url: str, value: str) -> float:
    try:
        seconds = float(value.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 600.0:
        raise DiscoveryError(f"registry {url!r}: wait {value!r} is not between 0 and 600 seconds")
    return seconds
