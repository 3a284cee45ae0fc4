"""Lines of JSON."""

from __future__ import annotations

import json
from typing import Any


def parse_line(line: bytes, place: str) -> Any:  # noqa: ANN401
    """The value in a line.

    Args:
        line: Its bytes.
        place: File and line, for the error.

    Raises:
        ValueError: It is not whole.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{place}: not a whole JSON object ({error}): mend or delete the line"
        ) from None
