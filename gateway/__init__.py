"""
HTTP in, gRPC out: routes, messages and documentation come from the services' own descriptors.

    python -m gateway                                     serves what the registry knows

    async with Gateway(registry).serving(port=0) as url:  the same, embedded
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.compose import Page as Page
    from gateway.serve import Gateway as Gateway
    from gateway.settings import Limits as Limits

_HOMES = {"Gateway": "gateway.serve", "Limits": "gateway.settings", "Page": "gateway.compose"}

__all__ = ["Gateway", "Limits", "Page"]


def __getattr__(name: str) -> Any:
    # Imported when it is first used: who tests a template loads no server.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
