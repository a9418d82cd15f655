"""
The old shop before the new one: what the gateway is told, and lines to paste.

DIR/strangler.json is written once and may be edited while the demo runs; only the old shop's
address in it is written anew at each start.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scripts.stage.running import Demo

FILE = "strangler.json"
FIRST: dict[str, Any] = {
    "servedBy": "X-Served-By",
    "legacy": {"shop": {"url": "", "timeout": "2s"}},
    "routes": [
        {
            "name": "products",
            "legacy": "shop",
            "match": ["GET /v1/products", "GET /v1/products/{product_id}"],
            "key": "header:X-Customer-Id",
            "percent": 10,
            "shadow": {
                "timeout": "1s",
                "emptyIsAbsent": True,
                # Only the new shop sells, and only the old one has shelves.
                "ignore": [
                    *(f"/{name}" for name in ("available", "reserved", "sold", "shelf")),
                    *(f"/products/*/{name}" for name in ("available", "reserved", "sold", "shelf")),
                    "/nextPageToken",
                ],
            },
            "abort": {"window": "60s", "minimumCalls": 20, "errorRate": 0.05},
        },
        {
            "name": "reviews",
            "legacy": "shop",
            "match": [
                f"{method} /v1/products/{{product_id}}/reviews" for method in ("GET", "POST")
            ],
        },
    ],
}
GUIDE = """

The shop of before, strangled: one customer in ten has moved (X-Served-By says who answers)
  curl -i -H 'X-Customer-Id: ada' '{gateway}/v1/products/mug'
  curl -X POST '{gateway}/v1/products/mug/reviews' -H 'Content-Type: application/json' \\
       -d '{{"stars": 5, "text": "Keeps warm."}}'
  curl -X POST '{admin}/admin/strangler' -H 'Content-Type: application/json' \\
       -d '{{"route": "products", "percent": 50, "reason": "a look"}}'
  curl '{admin}/admin/strangler'
"""


def settings(state: Path) -> dict[str, str]:
    """What the gateway is told; `write` puts the file there before it starts."""
    return {"GATEWAY_STRANGLER": str(state / FILE)}


def write(state: Path, url: str) -> None:
    """Put the file there, or the old shop's address into the one that is there."""
    path = state / FILE
    told: Any = FIRST
    with suppress(OSError):
        told = json.loads(path.read_text())
    told["legacy"]["shop"]["url"] = url
    path.write_text(json.dumps(told, indent=2) + "\n")


def guide(demo: Demo) -> str:
    """Lines to paste."""
    return GUIDE.format(gateway=demo.gateway, admin=demo.admin).rstrip("\n")
