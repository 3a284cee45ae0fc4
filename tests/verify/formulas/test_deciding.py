"""Equality of final answers: a few cases a rule, in both directions, without a process."""

import random
import re
import time

import pytest

from promptcot.records import Outcome
from verify.formulas.deciding import decide

PASS, FAIL, UNDECIDED = Outcome.PASS, Outcome.FAIL, Outcome.UNDECIDED

EQUAL = {
    "spelling": [
        (r"$\dfrac{1}{2}$", r"\frac12"),
        (r"\left( -\infty, 3 \right]", r"(-\infty,3]"),
        (r"\text{yes}", "yes"),
        (r"\mathrm{E}", "E"),
        ("2 × 10^(-10)", r"2 \times 10^{-10}"),
        (r"x^2_{ij}", r"x_{ij}^{2}"),
        (r"5\\\\", "5"),
        ("**5**", "5"),
        ("25¢", "25"),
        ("1⁄2", r"\frac12"),
        ("1.5×10⁵", "150000"),
        ("10⁻³", "0.001"),
        ("log₂ 8", "3"),
        ("1.5 x 10^5", "150000"),
        ("1.5*10**5", "150000"),
        ("2**10", "1024"),
        ("1e-5", "0.00001"),
        ("2e3", "2000"),
        ("(-inf, -1) U (3, inf)", r"(-\infty,-1)\cup(3,\infty)"),
        (r"4 \over 5", "0.8"),
        (r"1-{4\over5}", "0.2"),
        (r"{10 \choose 3}", r"\binom{10}{3}"),
        (r"\textstyle\frac12", r"\Large \frac12"),
        (r"\textcolor{red}{5}", r"{\bf 5}"),
    ],
    "numbers": [
        ("7425000", "7,425,000"),
        ("14{,}916", "14 {, }916"),
        ("1000", "1 000"),
        (r"\$32,\!348", "32348.0"),
        ("0.5", r"\frac{1}{2}"),
        (r"0.1\overline{6}", r"\frac16"),
        ("1,22", "1.22"),
        (r"\frac{1}{432}", r"2.314814814815 \times 10^{-3}"),
    ],
    "mixed numbers": [("1 1/2", r"\frac32"), (r"7\frac{9}{65}", r"\frac{464}{65}")],
    "rounding": [
        (r"\sqrt{3}", "1.732"),
        (r"\frac{1587}{52}", "30.52"),
        (r"\frac{1}{12}", "0.0833333333"),
        (r"\approx 3.14", "3.14"),
        (r"x \approx 3.14", "≈3.14"),
        ("x + 1.414y", r"x + \sqrt2 y"),
    ],
    "formulas": [
        (r"(r+5)^2", "(r+5)(r+5)"),
        (r"\sqrt{1/n}", r"1/\sqrt{n}"),
        (r"e^{i\pi}", "-1"),
        (r"\tan^2 y + 1", r"\sec^2(y)"),
        (r"\cot^{-1} 2", r"\arctan \frac12"),
        (r"2 \arcsin \sqrt{a}", r"\arccos(1-2a)"),
        (r"\frac{d!}{2k(d-k)!}", r"\frac{\binom{d}{k}(k-1)!}{2}"),
        (r"5\sqrt[3]{4}", r"5 \cdot 2^{2/3}"),
        (r"\lceil n/2 \rceil", r"\lfloor (n+1)/2 \rfloor"),
        ("⌊2.5⌋", "2"),
        (r"i(2-i)", "1+2i"),
        (r"-14/2 \mod 5", "3"),
    ],
    "units": [
        ("10", r"10\text{ cm}^2"),
        ("10", "10 weeks"),
        (r"864 \mbox{ inches}^2", "864"),
        (r"1\text{ m}", r"100\text{ cm}"),
        ("12", r"12^{\mathrm{th}}"),
        ("20", "20°C"),
        ("5 million", "5000000"),
        ("5", "5 million"),
        (r"\$2,500,000", r"2.5\text{ million dollars}"),
        ("1.5 million", "1500 thousand"),
        (r"20^\circ\text{C}", r"20^\circ C"),
    ],
    "percentages": [("50%", r"\frac{1}{2}"), (r"28\%", "28 percent"), ("10", r"10\%")],
    "angles": [
        ("90", r"90^\circ"),
        (r"60^\circ 30'", r"60.5^\circ"),
        (r"120^\circ", r"\frac{2\pi}{3}"),
        (r"x = k\pi", r"n\pi"),
    ],
    "conditions": [
        (r"k\pi, k \in \mathbb Z", r"n\pi, n\in\mathbb{Z}"),
        (r"k\pi \text{ for } k\in\mathbb{Z}", r"k\pi\ (k \in \mathbb{Z})"),
        (r"k\pi, k ∈ ℤ", r"k\pi"),
        (r"k\pi, k\in\mathbb{Z}^+", r"n\pi \text{ where } n\in\mathbb Z^+"),
    ],
    "lists": [
        ("5,1", "1, 5"),
        (r"\{1,2,2\}", r"\{2,1\}"),
        (r"1 \pm \sqrt{19}", r"1-\sqrt{19},\ 1+\sqrt{19}"),
        ("16,3,1,1", "w=16, d=3, a=1, b=1"),
        (r"7 \text{ and } -5", "-5,7"),
        (r"x_1=-2, x_2=3", "-2, 3"),
        (r"\{1,1\}", r"\{1\}"),
        (r"\{1,1\}", "1,1"),
        (r"\{HT, TH\}", r"\{TH, HT\}"),
        ("HH, HT, TH", "HH, TH, HT"),
    ],
    "tuples": [
        (r"(1,\frac92)", "(1, 4.5)"),
        ("(x, y) = (5, 8)", "(5,8)"),
        ("(1,2),(3,4)", "(3,4), (1,2)"),
        ("(-32+3x, 64-5x)", r"(-32+3t, 64-5t)"),
    ],
    "intervals": [
        (r"[\frac12, 8]", r"0.5 \leq x \leq 8"),
        (r"(-\infty,-5)", "-5 > k"),
        (r"\{x | -1 < x < 1\}", "(-1, 1)"),
        (r"4 < m \le 8 \text{ or } 10 \le m < 12", r"(4, 8] \cup [10, 12)"),
        (r"a \leqslant -2 \text{ or } a = 1", r"(-\infty, -2] \cup \{1\}"),
        ("x>2", r"(2,\infty)"),
        (r"x \in \mathbb{R}", r"(-\infty, \infty)"),
        (r"x \in [0, \infty)", r"[0, +\infty)"),
    ],
    "relations": [
        ("k=3", "3"),
        ("f(z)=z", "f(x)=x"),
        ("y = 2x+1", "2x - y + 1 = 0"),
        (r"x \ne 5", "x != 5"),
        (r"5 \le x", r"x \geq 5"),
        ("3:1", "3"),
        ("2:3:4", "4:6:8"),
        ("m+n = 33", "33"),
        ("AB = 5", "5"),
        ("|AB| = 5", "5"),
        ("m+n=33, mn=6", "33, 6"),
        (r"f^{-1}(x) = \frac{x-1}{2}", r"\frac{x-1}{2}"),
        (r"f^{-1}(x) = 2x", r"f^{-1}(t) = 2t"),
    ],
    "matrices": [
        (
            r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}",
            r"\left[\begin{array}{c}\frac12\\3\end{array}\right]",
        ),
        (r"\begin{pmatrix} -7 \\ 16 \end{pmatrix}", "(-7, 16)"),
    ],
    "bases": [("204_5", "204_{5}"), ("12_5", r"12_{\text{base }5}"), (r"11_2", "3_{10}")],
    "choices": [
        ("C", r"\textbf{(C) } 12"),
        ("B", r"\text{(B)}"),
        ("C", r"\textbf{(C)}"),
        ("C", r"(\textbf{C})"),
        ("C", "Option C"),
        ("C", r"\text{choice (C)}"),
        ("12", r"\textbf{(C)}\ 12"),
        (r"\frac12", "B. 0.5"),
    ],
    "words": [(r"\text{Navin}", "navin"), (r"\text{infinitely many}", r"\infty")],
    "times": [("20:34:00", "20:34"), (r"08:34 \text{P.M.}", "20:34")],
}
UNEQUAL = {
    "numbers": [("5.001", "5"), ("500", "5"), ("123457", "123456"), ("0", "1")],
    "tiny numbers": [
        ("2^{-99}", "2^{-98}"),
        ("1/2004!", "1/2006!"),
        ("0.0000001", "0.0000002"),
        ("e^{-100}", "e^{-101}"),
        (r"10^{40}\sqrt{2}", r"10^{40}\sqrt{2}+1"),
    ],
    "rounding": [
        (r"\frac18", "0.124"),
        (r"\frac13", "0.3"),
        (r"\frac{600}{7}", "82.02"),
        (r"\approx 3.14", r"\approx 5"),
    ],
    "formulas": [
        ("|x|", "x"),
        (r"\sqrt{x^2}", "x"),
        (r"1-1/\mathrm{e}", r"1+1/\mathrm{e}"),
        ("(a+5)(b+2)", "(+5)(b+2)"),
        ("A", "a"),
        (r"\ln 2", r"\log_{10} 2"),
        (r"\log 2", r"\log 3"),
        (r"\mathrm{E}*2", "E"),
    ],
    "chains": [("5", "1=2=5"), ("5", "y=4=5")],
    "units": [
        (r"10\text{ cm}", r"10\text{ m}"),
        (r"5\text{ kg}", r"5\text{ m}"),
        ("20°C", "20°F"),
        ("5 million", "5 billion"),
        ("5 million", "500000"),
    ],
    "angles": [(r"\frac{3\pi}{4}", r"120^\circ"), (r"x=k\pi", r"2n\pi")],
    "lists": [
        ("1,1,2", "1,2"),
        ("1,1", r"\{1\}"),
        (r"\{1,1\}", r"\{1,2\}"),
        ("1,-2", "1,-3"),
        (r"\pm 2021", "2021"),
    ],
    "tuples": [("(1,2)", r"\{1,2\}"), ("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)")],
    "intervals": [
        ("(-3,2)", "[-3,2]"),
        (r"a \ge 0", "[0, 1)"),
        ("x<1", "x>-1"),
        (r"(0,1) \cup (2,3)", "(0,1)"),
    ],
    "relations": [
        ("2x+z=1", "1"),
        ("x+y=1", "1"),
        ("m+n=33", "34"),
        ("m+n=33", "m-n=33"),
        ("a+b=5", "b+c=5"),
        ("f^{-1}(x)=2x", "f(x)=2x"),
        ("3*x-1*y+13=0", "3x+4y+14=0"),
        ("f(x)=2x", "f(x)=x"),
        ("f(x)=0", r"\forall x>0, f(x)=0"),
        ("1:2:3", "1:1:6"),
        ("b < a < d < c", "a < b < c < d"),
    ],
    "matrices": [(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}")],
    "choices": [("B", "Option C"), ("(D) 12", "(C) 12"), ("13", "(C) 12"), ("D", "(C) 12")],
    "bases": [("1010_2", "1010"), ("12_5", "12_6"), ("4343_6", "4393_6")],
    "words": [
        (r"\text{oddd}", "odd"),
        ("p∧q", "p∨q"),
        ("△ABC", "∠ABC"),
        ("A→B", "A↔B"),
        ("♠", "♥"),
        ("?", "!"),
        ("even", "5"),
        ("odd", "even"),
        ("no", "on"),
    ],
}


def both_ways(a, b):
    there, back = decide(a, b), decide(b, a)
    assert there.outcome is back.outcome
    return there.outcome


def cases(table):
    return [
        pytest.param(*pair, id=f"{rule} {pair}") for rule, pairs in table.items() for pair in pairs
    ]


@pytest.mark.parametrize(("a", "b"), cases(EQUAL))
def test_answers_that_mean_the_same_pass_in_both_directions(a, b):
    assert both_ways(a, b) is PASS


@pytest.mark.parametrize(("a", "b"), cases(UNEQUAL))
def test_answers_that_differ_fail_in_both_directions(a, b):
    assert both_ways(a, b) is FAIL


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("9^{9^{9^{9}}}", "5"),
        ("x+10^{10^{10}}", "10^{10^{10}}"),
        ("99999999!", "99999999!+1"),
        ("Kafelnikov served in the first game", "Becker"),
        (r"\int_0^1 x dx", r"\frac12"),
        (r"k\pi, k\in\mathbb{Z}^+", r"k\pi, k\in\mathbb{Z}"),
        (r"k\pi \text{ for all } k\in\mathbb{N}", r"k\pi \text{ for all } k\in\mathbb{Z}"),
        (r"\log_{10} 2", r"\log 2"),  # of the base e, or 10
        (r"\log 2", "0.3010"),
        ("HTH", "HHT"),  # words, or products of names
        ("BCA", "CAB"),
        ("(HT, TH)", "(TH, HT)"),
        ("", "5"),
        ("1" * 601, "2"),
    ],
)
def test_what_no_rule_knows_is_undecided_with_a_reason(a, b):
    assert both_ways(a, b) is UNDECIDED
    assert decide(a, b).reason


HOSTILE = [
    "9**9**9**9",
    "((9!)!)!",
    "1/" + "9" * 500,
    "9" * 100_000,
    "(" * 3000,
    "(" * 200 + "1" + ")" * 200,
    r"\frac{1}{" * 60 + "2" + "}" * 60,
    "x^{" * 100 + "x" + "}" * 100,
    "2" + "^2" * 200,
    r"\sin(" * 60 + "x" + ")" * 60,
    "+".join(f"x_{{{n}}}" for n in range(80)),
    "5\x00",
    "\ud800",
    "\\",
    "{" * 500,
    "}" * 500,
    r"1\pm" * 50 + "1",
    "(1,2)," * 80,
    "[1," * 100 + "]" * 100,
    "=".join(["1"] * 200),
    r"\begin{pmatrix}" * 30,
    r"\gcd(10^{5000},10^{4000})",
    r"\sin(10^{1000000})",
    "3" + "!" * 300,
    "1E9999",
    "0/0",
    r"\infty-\infty",
    r"\left" * 100,
    "$" * 500,
    "__import__('os').system('true')",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_no_string_raises_hangs_or_passes_as_five(text):
    start = time.perf_counter()
    for a, b in (("7", text), (text, "7"), (text, text + "+1")):
        assert decide(a, b).outcome is not PASS
    assert decide(text, text).outcome in {PASS, UNDECIDED}
    assert time.perf_counter() - start < 2


def test_model_text_is_never_executed(tmp_path):
    target = tmp_path / "made"
    for text in (
        f"__import__('os').system('touch {target}')",
        f"open('{target}','w')",
        rf"\operatorname{{eval}}(open('{target}','w'))",
    ):
        decide("5", text)
        decide(text, "5")
    assert not target.exists()


def test_a_changed_digit_is_never_equal():
    references = [
        r"\frac{17}{23}",
        r"3\sqrt{13}",
        "(-5, 12)",
        "x^3+3x-6",
        r"\frac{\pi}{4}",
        "4343_6",
    ]
    for reference in references:
        for digit in re.finditer(r"\d", reference):
            other = (int(digit[0]) % 9) + 1
            changed = reference[: digit.start()] + str(other) + reference[digit.end() :]
            assert decide(reference, changed).outcome is not PASS, changed


_PIECES = (
    r"\frac { } ( ) [ ] ^ _ \pm \cup \sqrt , ; : = < \le 9 0 - ! % \text{ x e \infty & | "
    r"\{ \} \sum f("
)
PIECES = _PIECES.split()


def test_no_mutation_raises_or_depends_on_the_direction():
    draw = random.Random(0)
    answers = [answer for pairs in EQUAL.values() for pair in pairs for answer in pair]
    for _ in range(1500):
        text = draw.choice(answers)
        for _ in range(draw.randint(1, 4)):
            place = draw.randint(0, len(text))
            text = text[:place] + draw.choice(PIECES) + text[place + draw.randint(0, 1) :]
        other = draw.choice(answers)
        assert both_ways(text, other) in Outcome
        assert decide(text, other).rule != "error"
