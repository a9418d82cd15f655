"""
Where a server listens and under which address others reach it: never the same as 0.0.0.0.
"""

from __future__ import annotations

import ipaddress
import socket

# RFC 5737 documentation address: routes are looked up for it, nothing is ever sent to it.
_ELSEWHERE = ("192.0.2.1", 9)


def join(host: str, port: int) -> str:
    """host:port as gRPC takes it; IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def claim(host: str, port: int) -> None:
    """
    Raise the operating system's own OSError if *host*:*port* cannot be listened on.

    gRPC says no more than "failed to bind" and logs the rest to stderr; asking first tells a busy
    port (EADDRINUSE) from a forbidden (EACCES) or foreign one (EADDRNOTAVAIL).
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise OSError(error.errno, error.strerror, join(host, port)) from None


def is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return host == ""


def reachable(host: str, advertise: str = "") -> str:
    """The host to register: *advertise*, else *host*, else the address of the way out of here."""
    if advertise:
        return advertise
    if not is_wildcard(host):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        try:
            way_out.connect(_ELSEWHERE)
            return str(way_out.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())
