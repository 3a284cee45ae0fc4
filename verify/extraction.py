"""Which part of a completion is its answer: by named forms, tried in order.

What follows a cut-off line of thought is no answer, and neither is the last number of a text.
Every step is linear in the length of the text, or reads only its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from promptcot.records import Outcome
from verify.formulas.deciding import decide_quickly
from verify.formulas.notation import MAX_ANSWER, unify
from verify.formulas.reading import read
from verify.formulas.shapes import Words, has_words

FORMS = ("boxed", "stated", "bare", "closing")
"""All forms, as they are tried. ``boxed``: the last balanced box. ``stated``: "the answer is ...".
``bare``: the text is nothing but an answer. ``closing``: the last formula or bold text of a reply
of at most ``MAX_REPLY`` characters, or the only number of its last whole sentence."""
MAX_REPLY = 400
MAX_TEXT = 200_000
"""Characters at the end of a text in which a boxed answer is sought."""
MAX_TAIL = 3000
"""Characters at the end of a text in which a stated answer is sought."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer as it was written, and the form that found it; or why there is none."""

    answer: str | None
    form: str


def extract(text: str, forms: Sequence[str] = FORMS) -> Extraction:
    """The answer of a completion.

    Args:
        text: A completion, or a bare answer.
        forms: Names of the forms that count, in the order in which they are tried.

    Raises:
        ValueError: A form is unknown.
    """
    unknown = set(forms) - set(FORMS)
    if unknown:
        raise ValueError(f"unknown form of answer {min(unknown)!r}: there are {', '.join(FORMS)}")
    _, thought, said = text.rpartition("</think>")
    if not thought and "<think>" in text:
        return Extraction(None, "the text ends within its thoughts")
    said = re.sub(r"<\|[a-z_]{1,20}\|>[a-z]{0,10}", "", _marked(said[-MAX_TEXT:])).lstrip()
    said = said.rstrip(" ") if said.strip() else ""
    for form in forms:
        found = _FINDERS[form](said)
        if found is not None:
            return found
    return Extraction(None, "no answer in any of the forms " + ", ".join(forms))


def _marked(text: str) -> str:
    """What stands between the last <answer> and its end; the whole text where nothing does."""
    before, closed, _ = text.rpartition("</answer>")
    _, opened, inner = before.rpartition("<answer>")
    return inner.strip() if closed and opened and inner.strip() else text


_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_GLUE = re.compile(
    r"[\s$,;.\\()]*(?:\\q?quad\s*)*(?:\\text\s*\{[^{}]{0,40}\}|and|or)?\s*(?:\\q?quad\s*)*[\s$,;.\\()]*"
)
_UNBRACED = re.compile(
    r"[-+]?(?:\w{1,30}|\\(?!left|begin|[bB]ig)[a-zA-Z]{1,20}(?:\s*\[\d\]|\s*\{[^{}]{1,100}\}|\d){0,3})"
)
"""What is boxed without braces: a word, or a command with its arguments."""
_HOLLOW = " \t\n.…"
"""What is in a box that only tells of boxes: "the answer within \\boxed{...}"."""
_PERCENT_AFTER = re.compile(r"[\s$\\)]*(?:\\?%|percent\b|pct\b)")


def _boxed(text: str) -> Extraction | None:
    boxes: list[tuple[int, int, str]] = []
    for match in list(_BOX.finditer(text))[-20:]:
        end = _balanced_end(text, match.end())
        if end < 0:
            if text[match.end() : match.end() + 1] == "{":
                return Extraction(None, "the text ends within its last box")
            continue
        inner = text[match.end() : end]
        boxes.append((match.start(), end, inner[1:-1] if inner.startswith("{") else inner))
    boxes = [box for box in boxes if box[2].strip(_HOLLOW)]
    if not boxes:
        return None
    _, end, answer = boxes[-1]
    if _PERCENT_AFTER.match(text, end) and not answer.rstrip().endswith("%"):
        answer += r"\%"
    answers = [answer]
    for (_, before, earlier), (start, _, _) in zip(boxes[-2::-1], boxes[:0:-1], strict=False):
        if (
            _is_repeated(earlier, answers[-1])
            or start < before
            or not _GLUE.fullmatch(text[before:start])
        ):
            break
        answers.append(earlier)
    return Extraction(",".join(answers[::-1]), "boxed")


def _is_repeated(earlier: str, answer: str) -> bool:
    """Whether a box says what the next one says, in the same spelling or as the same number."""
    decision = decide_quickly(earlier, answer)
    return decision is not None and decision.outcome is Outcome.PASS


def _balanced_end(text: str, start: int) -> int:
    r"""Where the group that begins at ``start`` ends, or the word or command without braces."""
    if text[start : start + 1] != "{":
        word = _UNBRACED.match(text, start)
        return word.end() if word else -1
    depth = place = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        place = brace.end()
        if depth == 0:
            return place
    return -1


_VALUE = r"\s*(?:is|are|=|:|：|est|是|为)?\s*(?:\\?\"|:)?\s*"
_FINAL = re.compile(rf"final answer\**\s*(?:is|:){_VALUE}", re.IGNORECASE)
_STATED = re.compile(
    rf"(?:answer\s+is|answer\**\s*:\**|答案\s*(?:是|为|：|:)|答え\s*(?:は|：|:)"
    rf"|réponse est|respuesta es|antwort (?:ist|lautet)|risposta è|resposta é|ответ\s*:){_VALUE}",
    re.IGNORECASE,
)
_CONCLUDED = re.compile(
    r"(?:\b(?:therefore|thus|hence)\b|answer:)[^.\n=]{0,200}?(?:\bis\b|\bare\b|=|\bequals\b|\b(?=-?\$?\d))",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^####[ \t]*(?=-?\\?\$?\d[\d.,/]*[ \t]*$)", re.MULTILINE)
_FORMS_STATED = (
    (_FINAL, MAX_TAIL),
    (_STATED, MAX_REPLY),
    (_NUMBERED, MAX_REPLY),
    (_CONCLUDED, MAX_REPLY // 2),
)
"""What states an answer, and how many characters before the end it still counts: a "so the answer
is 5" in the middle of a long thought may be taken back in what was cut off."""
_FORMULA_AHEAD = re.compile(
    r"\s*(?:\*\*(?P<bold>[^*\n]{1,400})\*\*|\$\$(?P<display>.{1,600}?)\$\$|\$(?P<inline>[^$]{1,600})\$"
    r"|\\\((?P<round>[^\n]{1,600}?)\\\)|\\\[(?P<square>.{1,600}?)\\\])",
    re.DOTALL,
)


def _stated(text: str) -> Extraction | None:
    for pattern, reach in _FORMS_STATED:
        tail = text[-reach:]
        for match in reversed(list(pattern.finditer(tail))):
            said = _ahead(tail, match.end(), is_short=len(text) <= MAX_REPLY)
            if said:
                return Extraction(said, "stated")
    bold = _BOLD_END.search(text[-MAX_REPLY:])
    if bold is None:
        return None
    counted = _COUNTED.match(bold[1])
    return Extraction(counted[0] if counted else bold[1], "stated")


_BOLD_END = re.compile(r"\*\*([^*\n]{1,200})\*\*[\s.。]*$")
_COUNTED = re.compile(r"[-+]?\d[\d.,]*(?=\s?[\u3040-\u9fff]{1,4}$)")
"""A number with a counting word: 3页."""
_EQUALS_END = re.compile(r"=\s*([-+]?\d[\d.,]*)\s?[\u3040-\u9fff]{0,4}\s*$")
_COUNTED_END = re.compile(r"([-+]?\d[\d.,]*)[\u3040-\u9fff]{1,4}。\s*$")

_LAST_SENTENCE = re.compile(
    r"(?:^|[.!?。।؟\n]\s)([^.!?。।؟\n]{1,200}(?:\.\d[^.!?。।؟\n]{0,100})?)[.。।]+\s*$"
)
_NUMBER = re.compile(r"(?<![\w.,/^*+-])-?\d+(?:[.,]\d+)*(?![\w/^*]|[.,]\d)")


def _ahead(text: str, start: int, is_short: bool) -> str | None:
    """The answer that begins at a place; at the very end of a long text it may be cut off."""
    formula = _FORMULA_AHEAD.match(text, start)
    if formula:
        more = re.compile(r"\s*(?:and|or|,)\s*(\$[^$\n]{1,200}\$)").match(text, formula.end())
        said = next(group for group in formula.groups() if group)
        return said + (f", {more[1]}" if more else "")
    end = re.compile(r"\.(?=\s|$)|\n|。| I hope|[,;]\s+(?=[a-z]{2})|\bsince\b|\bbecause\b").search(
        text, start
    )
    if end is None and not is_short:
        return None
    said = text[start : end.start() if end else len(text)].strip(' *"$,')
    counted = _COUNTED.match(said)
    said = counted[0] if counted else said
    if not said or len(said) > MAX_ANSWER // 4 or isinstance(read(unify(said)), Words):
        return said if 0 < len(said) <= 20 and re.fullmatch(r"\(?\w+\)?", said) else None  # noqa: PLR2004
    return said


def _bare(text: str) -> Extraction | None:
    lines = [line for line in text.splitlines() if line.strip()]
    if (
        not text
        or _BOX.search(text)
        or len(text) > MAX_ANSWER
        or (len(lines) > 1 and r"\begin" not in text)
    ):
        return None
    is_one = len(text) <= MAX_REPLY // 2 and not _NOT_BARE.search(text)
    if _is_wholly_formula(text) or is_one:
        return Extraction(text, "bare")
    return None


_NOT_BARE = re.compile(  # a formula in a sentence, bold, other scripts, two sentences
    r"[.!?]\s+[A-Z]|[A-Za-z]{2,}[ :].*(?<!\\)\$[^$]+\$|\*\*|\\\[|\\\(.*\\\)|[\u0600-\u9fff]{2}"
)


def _is_wholly_formula(text: str) -> bool:
    return not has_words(read(unify(text)))


def _closing(text: str) -> Extraction | None:
    if len(text) > MAX_REPLY:
        return None
    at_end = _EQUALS_END.search(text) or _COUNTED_END.search(text)
    if at_end:
        return Extraction(at_end[1], "closing")
    found = list(_FORMULA_AHEAD.finditer(text))
    if found:
        return Extraction(next(group for group in found[-1].groups() if group), "closing")
    sentence = _LAST_SENTENCE.search(text)
    numbers = _NUMBER.findall(sentence[1]) if sentence else []
    return Extraction(numbers[0], "closing") if len(numbers) == 1 else None


_FINDERS: Mapping[str, Callable[[str], Extraction | None]] = {
    "boxed": _boxed,
    "stated": _stated,
    "bare": _bare,
    "closing": _closing,
}
