"""When to try again, worked by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from promptcot.engines.retries import (
    Failure,
    Kind,
    Patience,
    clip,
    final_error,
    parse_retry_after,
    server_message,
    status_failure,
)

PATIENCE = Patience(max_retries=9, backoff_s=1.0, timeout_s=100)


def failure(kind: Kind, retry_after_s: float = 0.0) -> Failure:
    return Failure(kind, "what", "cure", retry_after_s)


def test_the_wait_doubles_up_to_a_minute_and_jitter_halves_it_at_most():
    waits = [PATIENCE.wait_s([failure(Kind.BUSY)] * tries, jitter=1.0) for tries in range(1, 10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert PATIENCE.wait_s([failure(Kind.BUSY)] * 3, jitter=0.0) == 2


def test_many_retries_do_not_overflow():
    patient = Patience(max_retries=10_000, backoff_s=1.0, timeout_s=1)
    assert patient.wait_s([failure(Kind.BUSY)] * 5_000, jitter=1.0) == 60


def test_a_server_is_never_asked_before_the_time_it_named():
    assert PATIENCE.wait_s([failure(Kind.BUSY, retry_after_s=7)], jitter=0.0) == 7
    assert PATIENCE.wait_s([failure(Kind.BUSY, retry_after_s=7)], jitter=0.5) == 7.5


def test_a_wait_longer_than_the_timeout_is_not_taken():
    assert PATIENCE.wait_s([failure(Kind.BUSY, retry_after_s=101)], jitter=0.0) is None


def test_it_gives_up_after_the_last_retry():
    once = Patience(max_retries=1, backoff_s=1.0, timeout_s=1)
    assert once.wait_s([failure(Kind.BUSY)], jitter=1.0) == 1
    assert once.wait_s([failure(Kind.BUSY)] * 2, jitter=1.0) is None


def test_a_refusal_is_final_and_nonsense_is_tried_four_times():
    assert PATIENCE.wait_s([failure(Kind.REFUSED)], jitter=0.0) is None
    assert PATIENCE.wait_s([failure(Kind.GARBLED)] * 3, jitter=0.0) is not None
    assert PATIENCE.wait_s([failure(Kind.GARBLED)] * 4, jitter=0.0) is None


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_a_busy_server_is_asked_again(status: int):
    assert status_failure(status, "wait", 0, "KEY").kind is Kind.BUSY


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
def test_a_refusing_server_is_not(status: int):
    assert status_failure(status, "no", 0, "KEY").kind is Kind.REFUSED


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.UNREACHABLE, ConnectionError),
        (Kind.BUSY, RuntimeError),
        (Kind.GARBLED, RuntimeError),
        (Kind.REFUSED, ValueError),
    ],
)
def test_the_error_names_the_request_the_url_the_tries_and_the_cure(kind, error):
    raised = final_error([failure(kind)] * 2, "request 5", "http://host/v1")
    assert type(raised) is error
    assert str(raised) == "request 5: POST http://host/v1 was tried 2 times, last: what: cure"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("3", 3),
        ("0.5", 0.5),
        ("-1", 0),
        ("nan", 0),
        ("inf", 0),
        ("soon", 0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 30),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999", 0),
    ],
)
def test_retry_after_in_both_its_forms(header, seconds):
    assert parse_retry_after(header, datetime(2026, 11, 23, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "too long"}}', "too long"),
        ('{"error": "too long"}', "too long"),
        ('{"message": "too long"}', "too long"),
        ('{"detail": [1]}', '{"detail": [1]}'),
        ("<html>", "<html>"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_the_servers_own_sentence_is_found(body: str, message: str):
    assert server_message(body) == message


def test_what_a_server_says_is_put_on_one_short_line():
    assert clip("a\r\n\x1b[31mb") == "a [31mb"
    assert clip("") == "nothing"
    assert clip("x" * 9, length=4) == "xxxx ..."


def test_impossible_patience_is_refused():
    with pytest.raises(ValueError, match="timeout_s=0"):
        Patience(max_retries=0, backoff_s=0, timeout_s=0)
