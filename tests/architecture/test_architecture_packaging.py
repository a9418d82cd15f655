"""What is declared is what is used, what is locked is what is declared, and no index is named."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.architecture.source import OURS, ROOT, imports, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-protos.lock")
# Where a distribution's import name is not its own.
DISTRIBUTIONS = {
    "aiormq": "aio-pika",
    "botocore": "aiobotocore",
    "consul": "py-consul",
    "dns": "dnspython",
    "google": "protobuf googleapis-common-protos",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "cryptography": "PyJWT",
    "jwt": "PyJWT",
    "nats": "nats-py",
    "protobuf": "protovalidate",
    "ruamel": "ruamel.yaml",
    "werkzeug": "moto",
}
# Used where they are installed; playwright drives a browser that is not part of any lock.
OPTIONAL = {"uvloop", "playwright"}


def names(requirements: list[object]) -> set[str]:
    return {re.split(r"[\[<>=!~ ;]", text)[0] for text in requirements if isinstance(text, str)}


def test_every_package_imported_is_declared() -> None:
    runtime = names(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        runtime |= names(extra)
    everything = runtime | names(PROJECT["dependency-groups"]["dev"])
    found = []
    for name, path in sources().items():
        shipped = name.split(".")[0] not in ("tests", "scripts")
        for each in imports(path):
            top = each.target.split(".")[0]
            if top in sys.stdlib_module_names or top in (*OURS, *OPTIONAL) or not top:
                continue
            given = {re.sub("_", "-", DISTRIBUTIONS.get(top, top))} | set(
                DISTRIBUTIONS.get(top, "").split()
            )
            if not given & (runtime if shipped else everything) and not _beside(path, top):
                found.append(f"{each.place} imports {top}, which pyproject.toml does not declare")

    assert not found, "\n" + "\n".join(found)


def _beside(path: Path, top: str) -> bool:
    """A test's own neighbour."""
    return (path.parent / f"{top}.py").exists()


def test_the_locks_name_no_index_and_pin_every_package_by_hash() -> None:
    for lock in LOCKS:
        text = (ROOT / lock).read_text()
        assert "://" not in text, lock
        for entry in re.split(r"\n(?=\S)", text.strip()):
            assert "==" in entry, f"{lock}: {entry[:60]}"
            assert "--hash=sha256:" in entry, f"{lock}: {entry[:60]}"


def test_the_lock_of_the_tools_agrees_with_the_lock_of_what_runs() -> None:
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^(\S+==\S+)", (ROOT / lock).read_text(), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_every_dependency_is_locked() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / LOCKS[0]).read_text(), re.MULTILINE))
    wanted = names(PROJECT["project"]["dependencies"])
    wanted |= names(PROJECT["dependency-groups"]["build"])

    assert wanted <= locked


def test_no_file_names_a_package_index_or_a_path_of_somebodys_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    # Put together here, so that this file does not name them itself.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "deb.deb" + "ian.org"]
    paths = ["/home" + "/", "/wo" + "rk/", "/ro" + "ot/"]
    found = []
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix == ".binpb" or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        found += [f"{name} names {word}" for word in hosts + paths if word in text]

    assert not found, "\n" + "\n".join(found)


def test_the_wheel_holds_every_package_of_ours() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    shipped = {Path(name).name for name in packages}

    assert {name for name in OURS if name not in ("scripts", "tests")} == shipped
