"""Who calls is believed when somebody with the mesh's secret has said so, lately."""

from pathlib import Path

import pytest

from mesh.identity import BadSeal, Caller, Seal, SealError
from mesh.identity.seal import LIFETIME_SECONDS
from mesh.identity.settings import IdentityError, seal, verifier

ONE, OTHER = b"1" * 32, b"2" * 32
ADA = Caller.named("user", "ada")


@pytest.mark.parametrize(
    "caller",
    [
        ADA,
        Caller.named("user", "zoë\nx-mesh-principal: user:root"),
        Caller.named("service", "orders", subject="ada lovelace"),
        Caller.named("key", ""),
    ],
)
def test_what_one_process_seals_another_believes(caller: Caller) -> None:
    said = Seal([ONE], lambda: 1000.0).say(caller)

    assert all(value.isascii() and value.isprintable() for _, value in said)
    assert Seal([ONE], lambda: 1010.9).heard([("a", "b"), *said]) == caller


def test_names_are_read_back_as_they_were() -> None:
    caller = Caller.named("service", "orders", subject="zoë/1")

    assert (caller.kind, caller.name, caller.made_for) == ("service", "orders", "zoë/1")


def test_who_says_nothing_is_nobody() -> None:
    assert Seal([ONE]).heard([("authorization", "Bearer x")]) is None


def test_secrets_are_changed_one_process_after_another() -> None:
    old, both, new = Seal([ONE]), Seal([OTHER, ONE]), Seal([OTHER])

    assert both.heard(old.say(ADA)) == new.heard(both.say(ADA)) == ADA
    with pytest.raises(BadSeal):
        new.heard(old.say(ADA))


@pytest.mark.parametrize("later", [-100.0, LIFETIME_SECONDS + 31.0])
def test_a_seal_is_good_for_a_while(later: float) -> None:
    said = Seal([ONE], lambda: 1000.0).say(ADA)

    with pytest.raises(BadSeal, match="expired"):
        Seal([ONE], lambda: 1000.0 + later).heard(said)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_word_that_is_changed_added_or_left_out_breaks_the_seal(place: int) -> None:
    sealing = Seal([ONE])
    said = sealing.say(Caller("service:orders", "ada"))
    name, value = said[place]
    changed = [*said[:place], (name, f"{value}x"), *said[place + 1 :]]

    for wrong in (changed, [*said, said[place]], said[:place] + said[place + 1 :]):
        with pytest.raises(BadSeal):
            sealing.heard(wrong)


@pytest.mark.parametrize(
    ("text", "said"), [("# none\n\n", "no secret"), ("x" * 31, "32 characters"), ("é", "secret 1")]
)
def test_secrets_that_are_none_are_refused_unshown(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "secrets"
    file.write_text(text)

    with pytest.raises(SealError, match=said):
        Seal.read(file)
    with pytest.raises(IdentityError, match=f"MESH_IDENTITY_KEY: {file}: ") as caught:
        seal({"MESH_IDENTITY_KEY": str(file)})
    assert "x" * 31 not in str(caught.value)


def test_without_settings_nothing_is_asked(tmp_path: Path) -> None:
    assert seal({}) is verifier({}, "MESH") is None
    with pytest.raises(IdentityError, match="no such file"):
        verifier({"MESH_JWKS": str(tmp_path / "none")}, "MESH")
