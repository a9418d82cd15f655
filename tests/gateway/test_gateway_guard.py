"""Who may ask: keys, tokens, rates and other origins, each off until it is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import discovery
from gateway.cors import Cors
from gateway.environment import Usage, settings
from gateway.guard import Guard
from gateway.keys import ApiKeys, KeysError
from gateway.quota import Quota
from gateway.rates import Rates
from mesh.identity import Caller, Seal
from mesh.identity.jwks import Jwks, JwksError
from tests.gateway.scripted import Notifications, Orders, Shop, running, serving, until

jwt = pytest.importorskip("jwt", reason="needs the extra auth")
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

from mesh.identity.tokens import Tokens  # noqa: E402

KEY = "a-key-of-twenty-chars"
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def jwk(private: Any, kid: str, **more: Any) -> dict[str, Any]:
    made = jwt.algorithms.RSAAlgorithm if hasattr(private, "private_numbers") else None
    kind = jwt.algorithms.ECAlgorithm if isinstance(private, ec.EllipticCurvePrivateKey) else made
    return {**json.loads(kind.to_jwk(private.public_key())), "kid": kid, **more}


def token(private: Any = PRIVATE, alg: str = "RS256", kid: str = "k", **claims: Any) -> str:
    body = {"sub": "zoë", "exp": time.time() + 60, **claims}
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, private, algorithm=alg, headers={"kid": kid})


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def keyset(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(PRIVATE, "k"), jwk(CURVE, "e")]}))
    return path


@asynccontextmanager
async def guarded(name: str, **keywords: Any) -> AsyncIterator[Shop]:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{name}") as registry,
        running(registry, "orders", orders),
        serving(registry, **keywords) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        yield Shop(url, http, orders, Notifications(), gateway)


# -- API keys


async def test_a_key_opens_and_names_its_holder_to_the_service(request: Any) -> None:
    guard = Guard(ApiKeys.parse(f"acme {KEY}"))
    async with guarded(request.node.nodeid, guard=guard) as shop:
        without, body, headers = await shop.ask("GET", "/v1/orders/o")
        wrong, _, _ = await shop.ask("GET", "/v1/orders/o", headers={"X-Api-Key": "x" * 20})
        right, _, _ = await shop.ask("GET", "/v1/orders/o", headers={"X-Api-Key": KEY})
        unknown, _, _ = await shop.ask("GET", "/nowhere")
        open_to_all = [(await shop.ask("GET", p))[0] for p in ("/healthz", "/docs")]
        socket, _, _ = await shop.ask("GET", "/v1/orders/o", headers={"Upgrade": "websocket"})

    assert (without, wrong, right, unknown, socket) == (401, 401, 200, 401, 401)
    assert body["details"][0]["reason"] == "UNAUTHENTICATED"
    assert headers.getall("www-authenticate") == ["Bearer"]
    assert open_to_all == [200, 200]
    assert [seen["x-mesh-principal"] for seen in shop.orders.metadata] == ["key:acme"]
    assert "x-api-key" not in shop.orders.metadata[0]


async def test_nobody_can_say_who_they_are_or_how_much_they_matter(shop: Any) -> None:
    for name in ("principal", "criticality"):
        headers = {f"Grpc-Metadata-X-Mesh-{name}": "root"}
        assert (await shop.ask("GET", "/v1/orders/o", headers=headers))[0] == 400
    await shop.ask("GET", "/v1/orders/o", headers={"X-Mesh-Principal": "root"})

    assert "x-mesh-principal" not in shop.orders.metadata[-1]


def test_a_file_of_keys_may_hold_digests_and_comments() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys = ApiKeys.parse(f"# ours\n\nacme sha256:{digest}  # the first\nglobex {KEY}2\n")

    assert [keys.holder(key) for key in (KEY, f"{KEY}2", digest, "")] == [
        *("acme", "globex", None, None)
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no key"),
        ("acme", "line 1"),
        ("\nacme short", "line 2"),
        ("acme sha256:nonsense-nonsense", "line 1"),
        (f"a {KEY}\nb {KEY}", "line 2"),
        (f"a:b {KEY}", "line 1"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused_without_showing_keys(text: str, said: str) -> None:
    with pytest.raises(KeysError, match=said) as caught:
        ApiKeys.parse(text)
    assert KEY not in str(caught.value)


async def test_with_a_secret_the_name_is_sealed_for_services_and_pages(request: Any) -> None:
    seal = Seal([b"a secret of more than 32 characters"])
    guard = Guard(ApiKeys.parse(f"acme {KEY}"), seal=seal)
    async with guarded(request.node.nodeid, guard=guard) as shop:
        await shop.ask("GET", "/v1/orders/o", headers={"X-Api-Key": KEY})

    (seen,) = shop.orders.metadata
    assert seal.heard(seen.items()) == Caller("key:acme")


# -- tokens


async def test_a_token_opens_and_names_its_subject_to_the_service(
    request: Any, keyset: Path
) -> None:
    guard = Guard(tokens=Tokens(Jwks(str(keyset))))
    async with guarded(request.node.nodeid, guard=guard) as shop:
        for text in (token(), token(alg="PS512"), token(CURVE, "ES256", "e")):
            assert (await shop.ask("GET", "/v1/orders/o", headers=bearer(text)))[0] == 200
        status, body, headers = await shop.ask("GET", "/v1/orders/o", headers=bearer(token(OTHER)))
        basic, _, _ = await shop.ask("GET", "/v1/orders/o", headers={"Authorization": "Basic eDp5"})

    assert {seen["x-mesh-principal"] for seen in shop.orders.metadata} == {"user:zo%C3%AB"}
    assert (status, basic) == (401, 401)
    assert "signature" in body["message"]
    assert headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: token(exp=time.time() - 60), "expired"),
        (lambda: token(exp=None), "lacks"),
        (lambda: token(sub=None), "lacks"),
        (lambda: token(sub=""), "nobody"),
        (lambda: token(nbf=time.time() + 90), "not valid yet"),
        (lambda: token(kid="unknown"), "no known key"),
        (lambda: token(kid="e"), "no known key"),
        (lambda: token(aud="another", iss="issuer"), "audience"),
        (lambda: token(aud="us", iss="evil"), "issuer"),
        (lambda: jwt.encode({"sub": "x", "exp": 9e9}, None, algorithm="none"), "no known key"),
        (lambda: token("s" * 64, "HS256"), "no known key"),
        (lambda: token()[:-6] + "AAAAAA", "signature"),
        (lambda: "x.y.z", "not a JWT"),
        (lambda: "a" * 20_000, "too long"),
    ],
)
async def test_a_token_that_proves_nothing_is_refused(keyset: Path, made: Any, said: str) -> None:
    from mesh.identity.caller import BadToken

    tokens = Tokens(Jwks(str(keyset)), issuer="issuer", audience="us")
    if said not in ("audience", "issuer"):
        tokens = Tokens(Jwks(str(keyset)))
    with pytest.raises(BadToken, match=said):
        await tokens.subject(made())


async def test_an_audience_and_an_issuer_that_are_ours_are_accepted(keyset: Path) -> None:
    tokens = Tokens(Jwks(str(keyset)), issuer="issuer", audience="us")

    assert await tokens.subject(token(aud=["us", "them"], iss="issuer")) == "zoë"


async def test_a_new_key_at_the_url_is_learnt_and_the_last_good_set_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys: Any = [jwk(PRIVATE, "k")]
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"keys": keys}) if keys else web.Response(status=500)

    application = web.Application()
    application.router.add_get("/jwks", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        jwks = Jwks(f"http://127.0.0.1:{port}/jwks")
        first = await asyncio.gather(*(jwks.keys("k") for _ in range(20)))
        unknown = [await jwks.keys("new") for _ in range(20)]
        assert (len(first), asked, unknown) == (20, 1, [[]] * 20)

        monkeypatch.setattr("mesh.identity.jwks.AGAIN_SECONDS", 0.0)
        keys.append(jwk(OTHER, "new"))
        assert [key["kid"] for key in await jwks.keys("new")] == ["new"]

        keys.clear()
        assert await jwks.keys("newer") == []
        assert [key["kid"] for key in await jwks.keys("k")] == ["k"]
    finally:
        await runner.cleanup()


async def test_without_any_key_set_the_answer_is_503(request: Any, tmp_path: Path) -> None:
    jwks = Jwks(str(tmp_path / "missing"))
    with pytest.raises(JwksError):
        await jwks.keys("k")
    async with guarded(request.node.nodeid, guard=Guard(tokens=Tokens(jwks))) as shop:
        status, body, headers = await shop.ask("GET", "/v1/orders/o", headers=bearer(token()))

    assert (status, body["details"][0]["reason"]) == (503, "JWKS_UNAVAILABLE")
    assert headers["retry-after"] == "1"


@pytest.mark.parametrize("url", ["http://example.com/jwks", "ftp://127.0.0.1/x", "http://10.0.0.1"])
def test_keys_are_not_fetched_where_they_could_be_forged(url: str) -> None:
    with pytest.raises(ValueError, match="forged"):
        Jwks(url)


# -- rates


async def test_each_key_has_a_rate_of_its_own(request: Any) -> None:
    now = 100.0
    keys = ApiKeys.parse(f"a {KEY}\nb {KEY}2")
    rates = Rates.parse("key:* 1:2")
    guard = Guard(keys, quota=Quota(rates, clock=lambda: now))
    async with guarded(request.node.nodeid, guard=guard) as shop:

        async def ask(key: str) -> tuple[int, Any, Any]:
            return await shop.ask("GET", "/v1/orders/o", headers={"X-Api-Key": key})

        first = [(await ask(KEY))[0] for _ in range(2)]
        refused, body, headers = await ask(KEY)
        other, _, _ = await ask(f"{KEY}2")
        now = 101.0
        later, _, _ = await ask(KEY)

    assert (first, refused, other, later) == ([200, 200], 429, 200, 200)
    assert body["details"][0]["reason"] == "RATE_LIMITED"
    assert headers["retry-after"] == "1"


# -- other origins


async def test_other_origins_pages_are_told_nothing_unless_it_is_said(shop: Any) -> None:
    _, _, headers = await shop.ask("GET", "/v1/orders/o", headers={"Origin": "https://a.example"})

    assert not [name for name in headers if name.lower().startswith("access-control")]


async def test_a_named_origin_may_call_and_read(request: Any) -> None:
    cors, guard = Cors(["https://a.example"]), Guard(ApiKeys.parse(f"a {KEY}"))
    async with guarded(request.node.nodeid, cors=cors, guard=guard) as shop:
        origin = {"Origin": "https://a.example"}
        asking = {
            **origin,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "x-api-key, grpc-metadata-x, evil",
        }
        status, _, before = await shop.ask("OPTIONS", "/v1/orders/o", headers=asking)
        named = {**origin, "X-Api-Key": KEY}
        _, _, after = await shop.ask("GET", "/v1/orders/o", headers=named)
        _, _, refused = await shop.ask("GET", "/v1/orders/o", headers=origin)
        _, _, other = await shop.ask(
            "GET", "/v1/orders/o", headers={**named, "Origin": "https://b.example"}
        )
        plain, _, _ = await shop.ask("OPTIONS", "/v1/orders/o", headers=origin)
        stream = await shop.http.get(f"{shop.url}/v1/orders/o:watch", headers=named)
        stream.release()

    assert status == 204
    assert "PATCH" in before["access-control-allow-methods"]
    assert "grpc-metadata-x" in before["access-control-allow-headers"]
    assert "evil" not in before["access-control-allow-headers"]
    for headers in (before, after, refused, stream.headers):
        assert headers["access-control-allow-origin"] == "https://a.example"
        assert headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in headers
    assert "grpc-metadata-x-from" in after["access-control-expose-headers"]
    assert "access-control-allow-origin" not in other
    assert plain == 401


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://*", "file://x"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        Cors([origin])


# -- what the environment says


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_API_KEYS", "/no/such/file"),
        ("GATEWAY_JWKS", "/no/such/file"),
        ("MESH_IDENTITY_KEY", "/no/such/file"),
        ("GATEWAY_JWKS", "http://example.com/"),
        ("GATEWAY_RATE_LIMIT", "many"),
        ("GATEWAY_RATE_LIMIT", "0"),
        ("GATEWAY_RATE_LIMIT", "nan"),
        ("GATEWAY_RATE_LIMIT", "5:0"),
        ("GATEWAY_RATE_LIMIT", "5/week"),
        ("GATEWAY_RATES", "/no/such/file"),
        ("GATEWAY_CORS_ORIGINS", "https://a.example, nonsense"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(Usage, match=name):
        settings([], {name: value})


def test_a_secret_is_of_no_use_to_a_gateway_that_knows_nobody(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("a secret of more than 32 characters")

    with pytest.raises(Usage, match="MESH_IDENTITY_KEY needs GATEWAY_JWKS or GATEWAY_API_KEYS"):
        settings([], {"MESH_IDENTITY_KEY": str(secrets)})
