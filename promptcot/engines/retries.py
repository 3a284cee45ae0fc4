"""Which failures of an HTTP request are worth another try, after how long, and what to say.

Pure: nothing here sends or sleeps. Texts that come from a server arrive with the key blotted out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

MAX_BACKOFF_S = 60.0
GARBLED_RETRIES = 3
RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)})
OF_THE_REQUEST = frozenset({400, 413, 422})
"""Refusals that may have to do with what is in one request alone."""
CURES = {
    401: "set the environment variable {key_env} to a key that this server takes",
    403: "set the environment variable {key_env} to a key that may use this model",
    404: "check base_url (most end in /v1) and that the server has the model under this name",
    413: "shorten the prompt",
    429: "lower concurrency, or raise max_retries or backoff_s",
}
BUSY_CURE = "look into the server's log, or raise max_retries or backoff_s"
REFUSED_CURE = (
    "change the prompt, the sampling, model or extra_body (where null takes a field out) as it says"
)


class RequestRefused(ValueError):
    """A server will not answer one request; others it may."""


class Kind(Enum):
    """What went wrong, by what the engine does about it."""

    UNREACHABLE = "no answer came"
    BUSY = "the server says that it cannot answer now"
    GARBLED = "an answer came that cannot be read"
    REFUSED = "asking again would not help"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one try brought nothing.

    Args:
        kind: Decides whether it is tried again and which exception it becomes.
        what: The status or the error, and the start of what the server said.
        cure: What the user can do.
        retry_after_s: The least time to wait, where the server named one.
        of_the_request: Whether it may be this request's content alone that is refused.
    """

    kind: Kind
    what: str
    cure: str
    retry_after_s: float = 0.0
    of_the_request: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to wait for a server.

    Args:
        max_retries: Tries after the first; an answer that cannot be read gets 3 at most.
        backoff_s: Longest wait before the second try; it doubles with every try, up to a minute.
        timeout_s: Limit of one try, and of the wait that a server may ask for.
    """

    max_retries: int
    backoff_s: float
    timeout_s: float

    def __post_init__(self) -> None:
        if self.max_retries < 0 or self.backoff_s < 0 or not self.timeout_s > 0:
            raise ValueError(
                f"max_retries={self.max_retries}, backoff_s={self.backoff_s}, "
                f"timeout_s={self.timeout_s}: the timeout must be above 0, the others 0 or more"
            )

    def wait_s(self, failures: Sequence[Failure], jitter: float) -> float | None:
        """Seconds to wait before the next try; None to give up.

        Args:
            failures: Every try so far, the latest last.
            jitter: Drawn from [0, 1), so that requests that failed together do not return together.
        """
        last = failures[-1]
        garbled = sum(failure.kind is Kind.GARBLED for failure in failures)
        if (
            last.kind is Kind.REFUSED
            or len(failures) > self.max_retries
            or garbled > GARBLED_RETRIES
            or last.retry_after_s > self.timeout_s
        ):
            return None
        if last.retry_after_s:
            return last.retry_after_s + jitter * self.backoff_s
        doubled = self.backoff_s * 2.0 ** min(len(failures) - 1, 16)
        return min(doubled, MAX_BACKOFF_S) * (1 + jitter) / 2


def status_failure(status: int, said: str, retry_after_s: float, key_env: str) -> Failure:
    """The failure that an HTTP status other than success stands for."""
    what = f"status {status}: {said}"
    if retry_after_s:
        what += f" (it asks to wait {retry_after_s:g} s)"
    if status in RETRIED:
        cure = CURES.get(status, BUSY_CURE)
        return Failure(Kind.BUSY, what, cure, retry_after_s)
    cure = CURES.get(status, REFUSED_CURE).format(key_env=key_env)
    return Failure(Kind.REFUSED, what, cure, of_the_request=status in OF_THE_REQUEST)


def redirect_failure(status: int, location: str) -> Failure:
    """The failure that a redirect stands for. None is followed: the key could go astray."""
    what = f"status {status}, redirected to {location}"
    return Failure(Kind.REFUSED, what, "set base_url to where the server is now")


def final_error(failures: Sequence[Failure], request: str, url: str) -> Exception:
    """The exception for a request that was given up."""
    last, tries = failures[-1], len(failures)
    times = "once" if tries == 1 else f"{tries} times"
    message = f"{request}: POST {url} was tried {times}, last: {last.what}: {last.cure}"
    if last.kind is Kind.UNREACHABLE:
        return ConnectionError(message)
    if last.of_the_request:
        return RequestRefused(message)
    return ValueError(message) if last.kind is Kind.REFUSED else RuntimeError(message)


def parse_retry_after(value: str | None, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks to wait, whichever of its two forms it has.

    Returns:
        0 where there is no header, it cannot be read or its time is over.
    """
    try:
        seconds = float(value or 0)
    except ValueError:
        seconds = _seconds_until(value or "", now or datetime.now(UTC))
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _seconds_until(date: str, now: datetime) -> float:
    try:
        then = parsedate_to_datetime(date)
        return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, OverflowError):
        return 0.0


def server_message(body: str) -> str:
    """The sentence in an error's body, or the whole body where none is found."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body
    for field in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(field):
            found = found[field]
    return found if isinstance(found, str) else body


def clip(text: str, length: int = 400) -> str:
    """The start of a text on one line, without control characters; "nothing" for an empty one."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return (line if len(line) <= length else line[:length] + " ...") or "nothing"
