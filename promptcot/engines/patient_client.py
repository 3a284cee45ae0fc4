"""Posts JSON to one server, with a key from the environment, and tries again where that helps."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import random
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import httpx

from promptcot.engines.retries import (
    Failure,
    Kind,
    Patience,
    clip,
    final_error,
    parse_retry_after,
    redirect_failure,
    server_message,
    status_failure,
)

T = TypeVar("T")
CONNECT_TIMEOUT_S = 30.0
MAX_PORT = 65535
logger = logging.getLogger(__name__)


class EnvironmentKey(httpx.Auth):
    """A bearer token that is read from the environment for every request and held nowhere.

    Args:
        name: The environment variable. Where it is unset or empty, no key is sent.
    """

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(
                "api_key_env is no name of an environment variable: name the variable that holds "
                "the key, never the key itself"
            )
        self.name = name

    def read(self) -> str:
        """The key, or an empty text."""
        key = os.environ.get(self.name, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(
                f"the environment variable {self.name} holds characters that no key has "
                "(a space, a line break, a letter outside ASCII): set it again"
            )
        return key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if key := self.read():
            request.headers["Authorization"] = f"Bearer {key}"
        yield request

    def blot(self, text: str) -> str:
        """The text without the key, should a server have put it there, quoted or as it is."""
        key = self.read()
        forms = (rf"(?:\\?{re.escape(c)}|%{ord(c):02x}|\\u{ord(c):04x})" for c in key)
        return re.sub("".join(forms), "[key]", text, flags=re.IGNORECASE) if key else text


class PatientClient:
    """A connection pool to one server; an asynchronous context manager."""

    def __init__(
        self, base_url: str, key: EnvironmentKey, patience: Patience, max_connections: int
    ) -> None:
        self.base_url = base_url
        self.key = key
        self.patience = patience
        self.random = random.Random()  # not the global one, which a run has seeded
        self.http = httpx.AsyncClient(
            auth=key,
            timeout=httpx.Timeout(
                patience.timeout_s, connect=min(CONNECT_TIMEOUT_S, patience.timeout_s)
            ),
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
            follow_redirects=False,
            trust_env=not is_loopback(base_url),
        )

    async def __aenter__(self) -> PatientClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def post(
        self, request: str, path: str, body: Mapping[str, Any], read: Callable[[object], T]
    ) -> T:
        """Post until ``read`` can make something of the reply.

        Args:
            request: What to call it in an error.
            path: Appended to the base URL.
            body: Sent as JSON.
            read: Takes the reply's JSON; raises ValueError for one that means nothing.

        Raises:
            ConnectionError: No answer came, try after try.
            RuntimeError: No answer came but errors, or answers that mean nothing.
            ValueError: The server refuses this request.
        """
        url = self.base_url + path
        content = json.dumps(body)
        failures: list[Failure] = []
        while True:
            outcome = await self._try(url, content, read)
            if not isinstance(outcome, Failure):
                return outcome
            failures.append(outcome)
            wait_s = self.patience.wait_s(failures, self.random.random())
            if wait_s is None:
                # Not raised where httpx's error was caught: that one knows the request's headers.
                raise final_error(failures, request, url)
            logger.info("%s: %s; next try in %.1f s", request, outcome.what, wait_s)
            await asyncio.sleep(wait_s)

    async def _try(self, url: str, content: str, read: Callable[[object], T]) -> T | Failure:
        try:
            async with asyncio.timeout(self.patience.timeout_s):
                response = await self.http.post(
                    url, content=content, headers={"Content-Type": "application/json"}
                )
        except (TimeoutError, httpx.TimeoutException) as error:
            what = f"no answer within {self.patience.timeout_s:g} s ({type(error).__name__})"
            cure = "raise timeout_s, or lower concurrency or max_tokens"
            return Failure(Kind.UNREACHABLE, what, cure)
        except httpx.RequestError as error:
            what = f"{type(error).__name__}: {clip(self.key.blot(str(error)))}"
            return Failure(Kind.UNREACHABLE, what, "start the server there, or set base_url")
        return self._read(response, read)

    def _read(self, response: httpx.Response, read: Callable[[object], T]) -> T | Failure:
        status = response.status_code
        if response.is_redirect:
            return redirect_failure(
                status, clip(self.key.blot(response.headers.get("Location", "")))
            )
        if not response.is_success:
            said = clip(self.key.blot(server_message(text_of(response))))
            retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
            return status_failure(status, said, retry_after_s, self.key.name)
        try:
            return read(response.json())
        except (ValueError, RecursionError) as error:
            body = clip(self.key.blot(text_of(response)))
            what = f"status {status} and an unreadable body ({error}): {body}"
            cure = "check that base_url is an OpenAI-compatible server's (most end in /v1)"
            return Failure(Kind.GARBLED, what, cure)


def text_of(response: httpx.Response) -> str:
    """The body, whatever encoding its header names."""
    return response.content.decode("utf-8", "replace")


def check_base_url(base_url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        ValueError: It is no plain http(s) address; where it may hold a password or a query, it is
            not shown.
    """
    if set(base_url) & set("@?#"):  # before anything shows it, also one that cannot be read
        raise ValueError(
            "base_url has a user name, a query or a fragment in it: leave them out, and put the "
            "key into the environment variable that api_key_env names"
        )
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    has_port = url.port is None or 0 < url.port <= MAX_PORT
    if url.scheme not in ("http", "https") or not url.host or not has_port:
        raise ValueError(f"base_url is {base_url!r}: write http(s)://host:port/v1")
    return str(url).rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine, so that no proxy may stand between."""
    host = httpx.URL(url).host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
