"""One notation for the many ways of writing an answer: LaTeX, Unicode and plain text to one form.

Only spelling changes here, never the value; every step is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_ANSWER = 600
"""Characters of an answer that are read; nothing longer is a final answer."""

ROW = "\x02"
"""Stands for the end of a matrix's row."""

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ",
    "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ",
    "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "°": r"^\circ ",
    "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ",
    "λ": r"\lambda ", "μ": r"\mu ", "≈": r"\approx ", "＜": "<", "＞": ">", "＝": "=", "（": "(",
    "⁄": "/", "¢": r"\text{ cents}", "∖": r"\setminus ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "ℤ": r"\mathbb{Z}", "ℝ": r"\mathbb{R}", "ℕ": r"\mathbb{N}",
    "）": ")", "，": ",", "：": ":", "∀": r"\forall ", "\u00a0": " ", "\u2009": " ", "′": "'",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "①": "1,", "②": "2,", "③": "3,", "④": "4,", "⑤": "5,",
}  # fmt: skip
_TRANSLATION = str.maketrans(_UNICODE)

_RAISED = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_TO_LINE = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "-+01234567890123456789")

_REPLACED: Sequence[tuple[str, str]] = (
    (r"\\(?:textbf|textit|textrm|textnormal|textsf|texttt|emph)(?=\s*\{)", r"\\text"),
    (r"(?<=\d)\s*(?:\{\s*,\s*\}|,\s*\\!)\s*(?=\d{3})", ""),
    (r"\\operatorname\*?\s*\{\s*([a-zA-Z]+)\s*\}", r"\\\1 "),
    (r"\\(?:left|right|mleft|mright|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?(?=\s|[^\s\w]|\w|$)", " "),
    (r"\\[,;:!> ]|~|\\q?quad|\\(?:no)?thinspace|\\displaystyle|\\limits|&nbsp;", " "),
    (
        r"\\(?:textstyle|scriptstyle|tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![a-zA-Z])",
        " ",
    ),
    (
        r"\\(?:text)?color\s*\{[^{}]*\}|\\[hv]space\*?\s*\{[^{}]*\}|\\(?:bf|it|sf|tt)(?![a-zA-Z])",
        " ",
    ),
    (r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}", r"\\frac{\1}{\2}"),
    (r"^([^{}\\]*)\\over(?![a-zA-Z])([^{}\\]*)$", r"\\frac{\1}{\2}"),
    (r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}", r"\\binom{\1}{\2}"),
    (r"^([^{}\\]*)\\choose(?![a-zA-Z])([^{}\\]*)$", r"\\binom{\1}{\2}"),
    (r"\\backslash(?![a-zA-Z])", r"\\setminus "),
    (r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))", r"\\times "),
    (r"(?<![a-zA-Z\\])inf(?:inity)?(?=\s*[)\],])", r"\\infty "),
    (r"(?<=[)\]}])\s*U\s*(?=[(\[{\\])", r"\\cup "),
    (r"\\mathbb\s*([A-Z])(?![a-zA-Z])", r"\\mathbb{\1}"),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\sqrt\s*(\[[^\[\]]*\])?\s*(\d{2,})(?!\d)", r"\\sqrt\1{\2}"),
    (r"\\dbinom|\\tbinom", r"\\binom"),
    (r"\\(?:leqslant|leqq|leq|le)(?![a-zA-Z])", r"\\le "),
    (r"\\(?:geqslant|geqq|geq|ge)(?![a-zA-Z])", r"\\ge "),
    (r"\\(?:neq|ne)(?![a-zA-Z])|!=|\\not\s*=", r"\\ne "),
    (r"<=", r"\\le "),
    (r">=", r"\\ge "),
    (r"\\lt(?![a-zA-Z])|&lt;", "<"),
    (r"\\gt(?![a-zA-Z])|&gt;", ">"),
    (r"\\(?:lbrace)(?![a-zA-Z])|\\lbrace(?=[a-z]\b)", r"\\{"),
    (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
    (r"\\(?:lgroup|lparen)", "("),
    (r"\\(?:rgroup|rparen)", ")"),
    (r"\\langle(?![a-zA-Z])", "("),
    (r"\\rangle(?![a-zA-Z])", ")"),
    (r"\\text(?:bf|rm)?\s*\{\s*\(?\s*(\d+)\s*\)?\s*\}", r"\1"),
    (r"\\lbrack", "["),
    (r"\\rbrack", "]"),
    (r"\\[lr]?vert|\\mid(?![a-zA-Z])", "|"),
    (r"\\(?:llcorner)(?![a-zA-Z])", r"\\lfloor "),
    (r"\\(?:lrcorner)(?![a-zA-Z])", r"\\rfloor "),
    (r"\\(?:ulcorner)(?![a-zA-Z])", r"\\lceil "),
    (r"\\(?:urcorner)(?![a-zA-Z])", r"\\rceil "),
    (
        r"\(\s*(?:\\(?:text|mathrm)\s*\{\s*mod\s*\}|\\?b?mod(?![a-zA-Z]))"
        r"\s*(\{[^{}]*\}|[^(){}\\]+)\)",
        r"\\pmod{\1}",
    ),
    (r"(?<=[\w)}])\s*\\(?:text|mathrm)\s*\{\s*mod\s*\}|(?<=[\w)}])\s+mod(?=\s)", r"\\bmod "),
    (r"\\(?:varnothing)(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\(?:exponentialE)(?![a-zA-Z])|\\mathrm\s*\{\s*e\s*\}", " e "),
    (r"\\(?:cupdot|bigcup)(?![a-zA-Z])", r"\\cup "),
    (r"\\(?:longrightarrow|rightarrow)(?![a-zA-Z])", r"\\to "),
    (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])|\\textdegree", r"\\deg "),
    (r"\\deg\s*(?:C|\\(?:text|mathrm)\s*\{\s*C\s*\})\s*$", r"\\text{ celsius}"),
    (r"\\deg\s*(?:F|\\(?:text|mathrm)\s*\{\s*F\s*\})\s*$", r"\\text{ fahrenheit}"),
    (r"\\(?:variable)\s*\{([a-zA-Z]+)_?(\w*)\}", r" \1_{\2} "),
    (r"\\variable\s*\{(\d+)\}", r" \1 "),
    (r"^\s*\\variable\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*$", r"\1"),
    (r"\\variable(?=\s*\{)", " "),
    (r"<sup>([^<]{0,40})</sup>", r"^{\1}"),
    (r"<sub>([^<]{0,40})</sub>", r"_{\1}"),
    (r"\\(?:bar|overline)(?![a-zA-Z])|\bbar(?=\{)", r"\\overline "),
    (r"\\(?:var)(theta|phi|epsilon|rho)", r"\\\1"),
    (r"\^\s*\{?\s*\\(?:text|mathrm|rm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
    (r"\^\s*\{\s*\\prime\s*\\prime\s*\}", "''"),
    (r"\^\s*(?:\{\s*\\prime\s*\}|\\prime(?![a-zA-Z]))", "'"),
    (r"_\{\s*\}|\^\{\s*\}", ""),
    (r"\^\s*(\{[^{}]*\}|\w)\s*_\s*(\{[^{}]*\}|\w)", r"_\2^\1"),
    (r"^\s*\*\*([^*]+)\*\*\s*$", r"\1"),
    (r"^\s*([-+]?\d+)e([-+]?\d{1,4})\s*$", r"\1E\2"),
    (r"(?<![\w)\]}])\*\*(?=\S)(?=[^*]*$)|`|\*\*$", " "),
)
_OUTWARD = re.compile(
    r"((?:^|\\cup|\\cap|\\in|=)\s*)([\[\]])([^\[\]()]+[,;][^\[\]()]+)([\[\]])(?=\s*(?:\\c[au]p|$))"
)
"""Intervals whose brackets look outward where they leave their ends out: ]0, 1[."""
_PATTERNS = [(re.compile(pattern), new) for pattern, new in _REPLACED]
_FONTS = re.compile(r"\\(?:mathbf|mathit|boldsymbol|bm|mathcal|mathsf|displaystyle|operatorname)\*?"
                    r"(?![a-zA-Z])\s*")  # fmt: skip
_UPRIGHT = re.compile(r"\\(?:text|mathrm|textbf|mbox|textrm|rm)\s*\{([^{}]*)\}")
_REPEATING = re.compile(r"(\d*)\.(\d{0,20})\\overline\s*\{\s*(\d{1,20})\s*\}")
_MONEY = re.compile(r"^[\s$]*(\\\$|[€£¥])\s*(\d(?:[\d,.{}!\s]|\\[!,])*?)[\s$.]*$")
"""An amount of money and nothing else."""
_COINS = {r"\$": "dollars", "€": "euros", "£": "sterling", "¥": "yen"}
_SPACES = re.compile(r"(?<![\d.])\s+|\s+(?![\d.])")
"""Those that mean nothing: 1 1/2 is not 11/2."""
_DOT = r"\\dot\s*\{?\s*\d\s*\}?"
_DOTTED = re.compile(rf"(?<=[.\d]){_DOT}(?:\d{{0,20}}{_DOT})?")
_EDGES = re.compile(r"^[\s.,;:]+(?!\d)|[\s,;:]+$|(?<!\.)\.\s*$")


def unify(text: str) -> str:
    r"""The answer in one spelling: no delimiters of formulas, sizes, spaces or fonts.

    >>> unify("$\\dfrac{1}{2}\\,$.")
    '\\frac{1}{2}'
    """
    text = _RAISED.sub(lambda digits: f"^{{{digits[0].translate(_TO_LINE)}}}", text)
    text = _LOWERED.sub(lambda digits: f"_{{{digits[0].translate(_TO_LINE)}}}", text)
    text = _strip_box(text.translate(_TRANSLATION).replace("\x00", " ").strip())
    text = re.sub(r"\\\$", " ", _MONEY.sub(_in_coins, text))
    text = re.sub(r"\\[()\[\]](?!\d+pt)|\$", " ", text)
    if r"\begin" not in text:  # a backslash escaped once too often
        text = re.sub(r"\\\\(?=[a-zA-Z]{2})", lambda _: "\\", text)
    text = re.sub(r"\\\\(?:\[\w+\])?|\\cr(?![a-z])", ROW, text).strip(ROW + " ")
    for pattern, new in _PATTERNS:
        text = pattern.sub(new, text)
    text = _OUTWARD.sub(_inward, text)
    text = _DOTTED.sub(_overlined, text)
    text = _REPEATING.sub(_repeated, _FONTS.sub(" ", text))
    text = _EDGES.sub("", text.strip()).strip()
    return re.sub(r"\s+", " ", text).rstrip("\\").strip()


def _in_coins(amount: re.Match[str]) -> str:
    return rf"{amount[2]}\text{{ {_COINS[amount[1]]}}}"


def _inward(match: re.Match[str]) -> str:
    before, opening, ends, closed = match.groups()
    return f"{before}{'(' if opening == ']' else '['}{ends}{')' if closed == '[' else ']'}"


def _strip_box(text: str) -> str:
    opening = re.match(r"^\$*\s*\\(?:boxed|fbox)\s*\{", text)
    if opening and text.rstrip("$. ").endswith("}"):
        return text[opening.end() : text.rindex("}")]
    return text


def _overlined(match: re.Match[str]) -> str:
    return rf"\overline{{{''.join(re.findall(r'[0-9]', match[0]))}}}"


def _repeated(match: re.Match[str]) -> str:
    """A repeating decimal as a fraction: its digits once less those that do not repeat."""
    whole, start, again = match.groups()
    top = int(whole + start + again) - int((whole + start) or "0")
    return rf"\frac{{{top}}}{{{'9' * len(again)}{'0' * len(start)}}}"


def skeleton(text: str) -> str:
    """Letters, digits and signs alone: equal skeletons of unified texts mean equal answers."""
    return _SPACES.sub("", _UPRIGHT.sub(r"\1", text))


def split_top(text: str, separators: str = ",;") -> list[str]:
    """Parts of a text between separators that stand outside all brackets."""
    parts: list[str] = []
    depth = start = 0
    for place, letter in enumerate(text):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth = max(0, depth - 1)
        elif letter in separators and depth == 0 and text[place - 1 : place] != "\\":
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in [*parts, text[start:]]]


def closing(text: str, start: int) -> int:
    """Place of the bracket that closes the one at ``start``, of whatever kind; -1 if none."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "([{":
            depth += 1
        elif text[place] in ")]}":
            depth -= 1
            if depth == 0:
                return place
    return -1
