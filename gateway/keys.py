"""
API keys: a file that names who holds which key.

    # who      key, or its SHA-256 so that the file itself opens nothing
    acme       3f9c1e0a77b24d5f8a61
    globex     sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

A key is looked up by its digest: how long the look takes tells nothing about the key.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# Shorter ones are guessed.
SHORTEST = 16
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[0-9A-Za-z._@-]+")


class KeysError(ValueError):
    """The file cannot be used; the message names the line and never the key."""


class ApiKeys:
    """Who holds which key."""

    def __init__(self, holders: dict[str, str]) -> None:
        self._holders = holders  # by the key's digest

    @classmethod
    def parse(cls, text: str) -> ApiKeys:
        """The keys that a file's text names."""
        holders: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or not _NAME.fullmatch(words[0]):
                raise KeysError(f"line {number} is not a name and a key")
            name, key = words
            given = _DIGEST.fullmatch(key)
            if given is None and (len(key) < SHORTEST or key.startswith("sha256:")):
                raise KeysError(f"line {number}: a key has at least {SHORTEST} characters")
            digest = given[1] if given else _digest(key)
            if digest in holders:
                raise KeysError(f"line {number}: the key is another's already")
            holders[digest] = name
        if not holders:
            raise KeysError("it names no key")
        return cls(holders)

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """The keys of a file, or KeysError."""
        try:
            return cls.parse(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(getattr(error, "strerror", None) or "it is not UTF-8") from error

    def holder(self, key: str) -> str | None:
        """Who holds `key`; None when nobody does."""
        return self._holders.get(_digest(key))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("latin-1", "replace")).hexdigest()
