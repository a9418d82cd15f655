"""A gRPC server in the mesh: health, reflection, registration, draining, rich errors."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.server.limits import Limits
    from mesh.server.server import Server

__all__ = ["Limits", "Server"]


def __getattr__(name: str) -> object:
    # Lazily: a part of it costs nobody health service and reflection.
    if name in __all__:
        return getattr(import_module(f"mesh.server.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
