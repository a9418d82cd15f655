"""The order that gateways are measured with: 900 bytes of JSON, 300 on the wire."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from shop.orders.v1 import orders_pb2

ORDER = json_format.ParseDict(
    {
        "order_id": "o-2f8c1b7e94d04c6b",
        "customer_id": "customer-8c41",
        "items": [
            {
                "product_id": f"product-{number:04}",
                "quantity": number,
                "unit_price": {"currency_code": "EUR", "units": 10 + number, "nanos": 990000000},
            }
            for number in range(1, 6)
        ],
        "payment_method": "card-visa-4242",
        "note": "Leave it with the neighbours, please.",
        "shipping_address": "Bahnhofstrasse 1, 8001 Zürich",
        "status": "ORDER_STATUS_CONFIRMED",
        "total": {"currency_code": "EUR", "units": 209, "nanos": 850000000},
        "create_time": "2026-01-02T03:04:05.678901Z",
        "update_time": "2026-01-02T03:04:06Z",
    },
    orders_pb2.Order(),
)
# What every gateway answers; what has no presence is printed.
ANSWER: dict[str, Any] = json_format.MessageToDict(ORDER, always_print_fields_with_no_presence=True)
BODY = json.dumps(
    json_format.MessageToDict(ORDER), ensure_ascii=False, separators=(",", ":")
).encode()
_HEADERS = (
    b"Host: shop.example\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n"
    b"X-Request-Id: 6f0b8a6c-7d0e-4b39-9a43-0f9f0c3f1f5e\r\n"
    b"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
)
# Whole requests, as they go over the wire.
POST = (
    b"POST /v1/orders HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (_HEADERS, len(BODY), BODY)
)
GET = b"GET /v1/orders/%b HTTP/1.1\r\n%b\r\n" % (ORDER.order_id.encode(), _HEADERS)
