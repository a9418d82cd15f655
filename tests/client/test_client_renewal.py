"""When a connection is renewed."""

from random import Random

import pytest

from discovery.model import Endpoint
from mesh.client.renewal import renewed_after


def endpoint(**meta: str) -> Endpoint:
    return Endpoint("e1", "127.0.0.1", 1, meta=meta)


def test_it_is_renewed_well_before_its_server_ends_it_and_not_all_at_once() -> None:
    rng = Random(1)
    found = [renewed_after(endpoint(max_connection_age="1800"), rng) for _ in range(200)]

    # C-core ends it between 0.9 and 1.1 of the age.
    assert all(seconds is not None and 900 <= seconds <= 1440 for seconds in found)
    assert max(found) - min(found) > 400


@pytest.mark.parametrize("said", [None, "", "soon", "0", "-5", "inf", "nan"])
def test_a_server_that_names_no_limit_that_makes_sense_keeps_its_connections(said) -> None:
    meta = {} if said is None else {"max_connection_age": said}
    assert renewed_after(endpoint(**meta), Random(1)) is None
