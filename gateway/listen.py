"""
A socket to listen on, and the URL of it.

    listening = listen("127.0.0.1", 8080)              # ListenError when the port is taken
"""

from __future__ import annotations

import socket

BACKLOG = 512


class ListenError(OSError):
    """The address cannot be listened on."""


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket, or ListenError; a `shared` port takes more of them, as workers do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def url_of(host: str, listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    return link(host, listening.getsockname()[1])


def link(host: str, port: int) -> str:
    """The URL of a host and port to listen on."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  not bound here
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
