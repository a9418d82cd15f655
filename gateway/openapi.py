from __future__ import annotations

from gateway.catalog import Catalog


def document(catalog: Catalog) -> bytes:
    return b"{}"


def page(catalog: Catalog) -> bytes:
    return b""
