"""What a service process makes of its arguments and environment; everything wrong is one line."""

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families
from shop.inventory.v1 import GetProductRequest, InventoryServiceServicer, InventoryServiceStub

import discovery
import mesh
from mesh.identity import Caller
from mesh.telemetry.prometheus import exposition
from services.process import main, read


def test_arguments_and_environment_make_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    told = read(
        "orders", ["--host", "::1", "--port", "7", "--instance", "3"], {"DATABASE_URL": "u"}
    )
    default = read("orders", [], {})

    assert (told.host, told.port, told.slot, told.database) == ("::1", 7, 3, "u")
    assert told.instance.startswith("orders-")
    assert told.instance.endswith("-3")
    assert (default.host, default.port, default.slot) == ("127.0.0.1", 0, 1)
    assert default.database == "sqlite:///.demo/orders.db"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "x"], "'x'"),
        (["--port", "65536"], "'65536'"),
        (["--port", "-1"], "'-1'"),
        (["--instance", "0"], "'0'"),
        (["--instance", "one"], "'one'"),
        (["--what"], "--what"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        read("orders", arguments, {"DATABASE_URL": "u"})

    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.startswith("orders: ")
    assert error.count("\n") == 1
    assert said in error


def test_one_setting_has_the_process_ask_who_calls(tmp_path):
    secrets = tmp_path / "secrets"
    secrets.write_text("# ours\n0123456789abcdef0123456789abcdef\n")

    asks = read(
        "orders", [], {"MESH_IDENTITY_KEY": str(secrets), "SHOP_STAFF": "user:ada, key:till"}
    ).access

    assert asks.seal is not None
    assert asks.seal.heard(asks.saying("orders", "zoë")()) == Caller("service:orders", "zo%C3%AB")
    assert asks.staff == {"user:ada", "key:till"}
    assert len(asks.interceptors()) == 1
    assert read("orders", [], {}).access.interceptors() == []


@pytest.mark.parametrize("setting", ["MESH_IDENTITY_KEY", "MESH_JWKS"])
def test_a_rule_that_cannot_be_read_is_one_line_and_exit_2(setting, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        read("orders", [], {setting: str(tmp_path / "none")})

    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.startswith(f"orders: {setting}: {tmp_path}/none: ")
    assert error.count("\n") == 1


def test_what_keeps_a_process_from_serving_is_one_line_and_exit_2(capsys, monkeypatch, tmp_path):
    async def busy(process):
        raise OSError(98, "Address already in use", "127.0.0.1:7")

    monkeypatch.chdir(tmp_path)

    assert main("orders", busy, ["--port", "7"]) == 2
    assert capsys.readouterr().err == "orders: 127.0.0.1:7: Address already in use\n"


def test_an_error_while_serving_is_not_disguised(monkeypatch, tmp_path):
    async def breaking(process):
        process.ready("127.0.0.1:7")
        raise OSError(5, "Input/output error")

    monkeypatch.chdir(tmp_path)

    with pytest.raises(OSError, match="Input/output"):
        main("orders", breaking, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_figures_are_shown_where_it_is_told(text, expected):
    assert read("orders", [], {"MESH_METRICS": text}).metrics == expected


@pytest.mark.parametrize("text", ["x", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1"])
def test_a_place_for_figures_that_is_none_is_one_line_and_exit_2(text, capsys):
    with pytest.raises(SystemExit) as caught:
        read("orders", [], {"MESH_METRICS": text})

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("orders: MESH_METRICS: ")


class Bare(InventoryServiceServicer):
    """An inventory that can nothing."""


async def test_what_a_service_calls_is_among_its_figures() -> None:
    process = read("orders", [], {"MESH_METRICS": "9464"})
    assert process.figures is not None
    async with (
        discovery.connect("memory://figures") as registry,
        mesh.Server("inventory", [Bare()], registry=registry).serving(),
        process.channel("inventory", mesh.Policy(), registry) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await InventoryServiceStub(channel).GetProduct(GetProductRequest(product_id="mug"))
    _, body = exposition({"": process.figures}, "")

    told = {
        (sample.name, sample.labels.get("grpc_status")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.labels.get("grpc_method") == "shop.inventory.v1.InventoryService/GetProduct"
    }
    assert told["grpc_client_attempt_started_total", None] == 1
    assert told["grpc_client_call_duration_seconds_count", "UNIMPLEMENTED"] == 1


def test_without_figures_nothing_is_counted() -> None:
    process = read("orders", [], {})
    assert (process.figures, process.calls) == (None, None)
