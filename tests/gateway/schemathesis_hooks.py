"""What a schema cannot say of the shop's requests, for schemathesis; see schemathesis.toml."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis

FAILED_PRECONDITION = 9
KEY, FIELDS = "Idempotency-Key", ("requestId", "request_id")


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """A token comes out of a page and out of nowhere else."""
    if query and query.get("page_token"):
        query["page_token"] = ""
    return query


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A key is given once: as a header, or as a field."""
    fields = [where for where in (case.query, case.body) if isinstance(where, dict)]
    if case.headers and case.headers.get(KEY) and any(w.get(n) for w in fields for n in FIELDS):
        del case.headers[KEY]


@schemathesis.check
def valid_data_is_refused_by_the_state_alone(ctx: Any, response: Any, case: Any) -> None:
    """400 to a request that the schema allows must be FAILED_PRECONDITION."""
    if response.status_code == HTTPStatus.BAD_REQUEST and case.meta.generation.mode.is_positive:
        assert response.json()["code"] == FAILED_PRECONDITION, response.text
