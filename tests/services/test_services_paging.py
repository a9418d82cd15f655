"""Page sizes and tokens: what is given out is taken back, and nothing else is."""

import json
from base64 import urlsafe_b64encode

import pytest

from mesh.errors import Code, StatusError
from services.paging import page


def token_of(*parts: object) -> str:
    return urlsafe_b64encode(json.dumps(parts).encode()).decode()


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_holds_what_is_asked_within_bounds(asked, size):
    assert page(asked, "", key=(int,)).size == size


def test_a_token_leads_to_the_key_it_was_made_from():
    first = page(2, "", key=(int, str), filters=("c-1", 0))

    token = first.next_token((2**62, "o-1"))

    assert page(2, token, key=(int, str), filters=("c-1", 0)).after == (2**62, "o-1")


@pytest.mark.parametrize(
    "token",
    [
        "!",
        "ä",
        "bm9uc2Vuc2U",
        token_of(),
        token_of("x"),
        token_of("x", "1", "o"),
        token_of("x", True, "o"),
        token_of("x", 1, "o", 2),
        "W" * 4000,
        page(1, "", key=(int, str), filters="other").next_token((1, "o")),
    ],
)
def test_any_other_token_is_refused_and_named(token):
    with pytest.raises(StatusError) as refused:
        page(1, token, key=(int, str), filters="these")

    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.reason == "INVALID_PAGE_TOKEN"
    assert refused.value.fields[0][0] == "page_token"


def test_a_negative_size_is_refused_and_named():
    with pytest.raises(StatusError) as refused:
        page(-1, "", key=(int,))

    assert refused.value.fields[0][0] == "page_size"
