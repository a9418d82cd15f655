"""
Sagas that gave up and events that nobody could deal with, of a running service: see, mend, go on.

    python -m mesh.operator                    the parked sagas: id, what failed, how often, why
    python -m mesh.operator --state running    those on their way
    python -m mesh.operator show ID            one of them with its journal
    python -m mesh.operator replay ID ...      have parked ones try again, with all their patience
    python -m mesh.operator replay --all       every one that is parked

    python -m mesh.operator dead               the dead letters: id, what, how many wait, why
    python -m mesh.operator dead show ID       one of them with its payload
    python -m mesh.operator dead redrive ID ...    have them tried again, and those behind them
    python -m mesh.operator dead redrive --all     every one
    python -m mesh.operator dead drop ID ...       give them up: those behind them go on

Whose they are is --service: orders' sagas and notifications' dead letters, unless told.  The
service is found as every client finds it: MESH_REGISTRY, else CONSUL_HTTP_ADDR, else the Consul on
this machine.  Where who asks has to be proven (MESH_IDENTITY_KEY), it asks as the operator.  Exit 0
when it is done, 1 when one of those named can't be helped, 2 for a usage or a service that can't be
asked; why is one line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

import grpc

import discovery
import mesh
from mesh.identity import Caller, Saying, speaking
from mesh.identity.settings import IdentityError, seal
from mesh.operator import dead, sagas

DEAD = "dead"


async def run(asked: argparse.Namespace) -> int:
    environ = {**os.environ, "MESH_REGISTRY": asked.registry} if asked.registry else os.environ
    with speaking(_operator(environ)):
        async with (
            discovery.from_environment(environ) as registry,
            mesh.Channel(asked.service, registry=registry) as channel,
        ):
            code: int = await asked.about.run(channel, asked)
            return code


def _operator(environ: Mapping[str, str]) -> Saying | None:
    """What is said of who asks, where that has to be proven."""
    sealing = seal(environ)
    return None if sealing is None else partial(sealing.say, Caller.named("service", "operator"))


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _asked(sys.argv[1:] if arguments is None else arguments)
    try:
        return asyncio.run(run(asked))
    except grpc.aio.AioRpcError as error:
        return _complain(f"{error.code().name}: {error.details()}")
    except (discovery.DiscoveryError, IdentityError) as error:
        return _complain(str(error))


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    """What the arguments ask for; exits with 2 when they ask for nothing that there is."""
    parser = _Parser(
        prog="python -m mesh.operator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="[dead] VERB ID", help="as above")
    parser.add_argument("--all", action="store_true", help="replay or redrive all that there are")
    parser.add_argument("--state", choices=sagas.STATES, help="which sagas are listed: parked")
    parser.add_argument("--service", help="whose they are: orders, of dead letters notifications")
    parser.add_argument("--registry", default="", help="its URL, such as consul://127.0.0.1:8500")
    asked = parser.parse_intermixed_args(arguments)
    letters = asked.words[:1] == [DEAD]
    verb, *ids = asked.words[letters:] or ["list"]
    verbs = dead.VERBS if letters else sagas.VERBS
    again = verbs[2]
    if verb not in verbs:
        parser.error(f"{verb!r} is not one of {', '.join(verbs)}")
    if verb == "list" and ids:
        parser.error(f"list takes no id: {ids[0]!r}")
    if verb == "show" and len(ids) != 1:
        parser.error(f"show needs one id, not {len(ids)}")
    if asked.all and verb != again:
        parser.error(f"--all is for {again}, not for {verb}")
    if verb == again and bool(ids) == asked.all:
        parser.error(f"{again} needs ids, or --all")
    if verb == "drop" and not ids:
        parser.error("drop needs ids: what is dropped is lost")
    if asked.state and (letters or verb != "list"):
        parser.error("--state is for the list of sagas")
    asked.about = dead if letters else sagas
    asked.verb, asked.ids = verb, ids
    asked.service = asked.service or ("notifications" if letters else "orders")
    return asked


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_complain(f"{message} (see --help)"))


def _complain(why: str) -> int:
    print(f"operator: {' '.join(why.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
