"""Keeps passwords out of all that is stored or shown: tracking URIs, configs, command lines, patches, error lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

# scheme://user:password@host, the user being optional
URI_PASSWORD = re.compile(r"([A-Za-z][\w+.-]*://[^\s/:@'\"]*:)([^\s/'\"]+)(?=@)")
QUERY_PASSWORD = re.compile(r"([?&](?:password|passwd|token|api_?key|secret)=)[^&\s'\"]+", re.IGNORECASE)
# an override on a command line
ARGUMENT_PASSWORD = re.compile(
    r"((?:^|[\s'\"{,+_.-])(?:password|passwd|secret|api_?key|(?:access|auth|api|hf|secret)_?token)=)[^\s,'\"}]+",
    re.IGNORECASE,
)
# SQLAlchemy's own reading of a URL also lets a password hold slashes
WIDE_PASSWORD = re.compile(r"^[\w+.-]+://[^:/@]*:([^@]*)@")
SECRET_KEY = re.compile(
    r"(^|[_.-])(password|passwd|secret|api_?key|(access|auth|api|hf|secret)_?token)$", re.IGNORECASE
)
SECRET_VARIABLE = re.compile(r"(password|passwd|secret|token|api_?key|credential)", re.IGNORECASE)
SHORTEST_SECRET = 6  # shorter values stand in ordinary text by chance


def secrets_of(uri: str | None, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The texts that must never be shown: the URI's password as typed and decoded, and secret environment variables."""
    found = set()
    for match in filter(None, (WIDE_PASSWORD.match(uri or ""), URI_PASSWORD.match(uri or ""))):
        password = match.group(match.lastindex or 0)
        found |= {password, unquote(password)}
    environment = os.environ if environment is None else environment
    for name, value in environment.items():
        if SECRET_VARIABLE.search(name) and len(value) >= SHORTEST_SECRET and not value.startswith(("/", "~")):
            found.add(value)
    return tuple(sorted(filter(None, found), key=len, reverse=True))


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with every password in a URI or an override, and every one of `secrets`, replaced by `***`."""
    text = URI_PASSWORD.sub(rf"\g<1>{HIDDEN}", text)
    for pattern in (QUERY_PASSWORD, ARGUMENT_PASSWORD):
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
        else:  # too short to look for everywhere; where it stands as a password it is certain
            text = text.replace(f":{secret}@", f":{HIDDEN}@")
    return text


def redact_config(value: Any, secrets: Iterable[str] = (), key: str = "") -> Any:
    """A copy of a plain config without passwords; strings under keys such as `api_key` are hidden whole."""
    if isinstance(value, Mapping):
        return {k: redact_config(v, secrets, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_config(v, secrets, key) for v in value]
    if isinstance(value, str):
        return HIDDEN if value and SECRET_KEY.search(key) else redact(value, secrets)
    return value
