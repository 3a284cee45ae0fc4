"""Independent confirmations of the answers in ``sample_data/math_b.jsonl``.

Every function recomputes one answer from its statement alone (exhaustive enumeration, exact
linear algebra over fractions, or numerical solution of the raw conditions followed by
recognition of a rational) and returns it as a string. Only the standard library is needed.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import combinations, pairwise, permutations, product
from typing import TypeVar

State = TypeVar("State", bound=Hashable)


def _rational(value: float, max_denominator: int = 5000) -> Fraction:
    """Return the simple fraction a numerical value stands for, or fail if there is none."""
    guess = Fraction(value).limit_denominator(max_denominator)
    if abs(float(guess) - value) > 1e-8 * max(1.0, abs(value)):
        raise ValueError(f"{value} is not recognised as a fraction")
    return guess


def _surd(square: Fraction) -> str:
    """Write the square root of a positive rational as ``a*sqrt(m)/b`` with m squarefree."""
    radicand = square.numerator * square.denominator
    outside, inside = Fraction(1, square.denominator), radicand
    for factor in range(math.isqrt(radicand), 1, -1):
        if inside % (factor * factor) == 0:
            inside //= factor * factor
            outside *= factor
    if inside == 1:
        return str(outside)
    head = "" if outside.numerator == 1 else f"{outside.numerator}*"
    tail = "" if outside.denominator == 1 else f"/{outside.denominator}"
    return f"{head}sqrt({inside}){tail}"


def _solve(rows: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """Solve a consistent augmented linear system with one solution by exact elimination."""
    table = [list(row) for row in rows]
    unknowns = len(table[0]) - 1
    for column in range(unknowns):
        pivot = next(r for r in range(column, len(table)) if table[r][column] != 0)
        table[column], table[pivot] = table[pivot], table[column]
        lead = table[column][column]
        table[column] = [entry / lead for entry in table[column]]
        for r, row in enumerate(table):
            if r != column and row[column] != 0:
                factor = row[column]
                pairs = zip(row, table[column], strict=True)
                table[r] = [x - factor * y for x, y in pairs]
    if any(row[unknowns] != 0 for row in table[unknowns:]):
        raise ValueError("the system is inconsistent")
    return [table[i][unknowns] for i in range(unknowns)]


def _expected_steps(
    states: Sequence[State], moves: Callable[[State], list[tuple[Fraction, State]]]
) -> dict[State, Fraction]:
    """Return expected absorption times; moves to states outside ``states`` are absorbing."""
    index = {state: i for i, state in enumerate(states)}
    rows = []
    for state in states:
        row = [Fraction(0)] * (len(states) + 1)
        row[index[state]] += 1
        row[-1] = Fraction(1)
        for chance, target in moves(state):
            if target in index:
                row[index[target]] -= chance
        rows.append(row)
    return dict(zip(states, _solve(rows), strict=True))


def _roots(coefficients: Sequence[float]) -> list[complex]:
    """Find all roots of a monic polynomial (leading coefficient first) by Durand-Kerner."""
    degree = len(coefficients) - 1
    roots = [(0.4 + 0.9j) ** k * 1.5 for k in range(degree)]
    for _ in range(300):
        for i, root in enumerate(roots):
            value: complex = 0
            for coefficient in coefficients:
                value = value * root + coefficient
            for j, other in enumerate(roots):
                if j != i:
                    value /= root - other
            roots[i] = root - value
    return roots


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Find a zero of a function that changes sign between two points."""
    sign = function(low) > 0
    if sign == (function(high) > 0):
        raise ValueError("no change of sign")
    for _ in range(200):
        middle = (low + high) / 2
        if (function(middle) > 0) == sign:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the least value of a convex function on an interval by ternary search."""
    for _ in range(90):
        third = (high - low) / 3
        if function(low + third) < function(high - third):
            high -= third
        else:
            low += third
    return function((low + high) / 2)


def _cross(u: Sequence[Fraction], v: Sequence[Fraction]) -> list[Fraction]:
    """Return the cross product of two vectors in space."""
    return [u[(i + 1) % 3] * v[(i + 2) % 3] - u[(i + 2) % 3] * v[(i + 1) % 3] for i in range(3)]


def al_01() -> str:
    """Find the three roots numerically and add up the three quotients."""
    a, b, c = _roots([1, -5, 2, 7])
    total = c / (a + b - 2) + a / (b + c - 2) + b / (c + a - 2)
    return str(_rational(total.real))


def al_02() -> str:
    """Bisect for the ratio from the sum of logarithms, then count terms in the window."""

    def excess(ratio: float) -> float:
        return sum(math.log(27 * ratio**k, 9) for k in range(12)) - 51

    ratio = _rational(_bisect(excess, 1.0, 50.0), 1000)
    terms = [27 * ratio**k for k in range(200)]
    return str(sum(10**6 < term < 10**12 for term in terms))


def al_03() -> str:
    """Iterate the recurrence with exact fractions, multiply, and count divisors."""
    x, value = Fraction(5), Fraction(1)
    for _ in range(44):
        value *= x - 1
        x = (5 * x - 9) / (x - 1)
    if value.denominator != 1:
        raise ValueError("the product is not an integer")
    rest, divisors, prime = value.numerator, 1, 2
    while rest > 1:
        exponent = 0
        while rest % prime == 0:
            rest //= prime
            exponent += 1
        divisors *= exponent + 1
        prime += 1
    return str(divisors)


def al_04() -> str:
    """Tabulate f up to 2**17, beyond which every value is too large, and count."""
    size = 1 << 17
    f = [0, 1] + [0] * (size - 2)
    for n in range(2, size):
        f[n] = f[n // 2] + (5 if n % 2 else 2)
    return str(f.count(31))


def al_05() -> str:
    """Try every k in a wide window and every x in a window on the fixed line."""
    good = {k for k in range(-200, 201) for x in range(-60, 61) if k * x + 2 * (3 * x - 5) == 30}
    return str(len(good))


def al_06() -> str:
    """Multiply the eight complex factors directly."""
    omega = cmath.exp(2j * cmath.pi / 9)
    value = math.prod((omega ** (2 * k) - 3 * omega**k + 1 for k in range(1, 9)), start=1 + 0j)
    return str(_rational(value.real))


def al_07() -> str:
    """Search all first terms and differences that could reach 600."""
    count = 0
    for a in range(1, 601):
        # Only a progression that starts at 600 can have a larger difference than 600.
        for d in range(1, 600 if a < 600 else 100_000):
            if (a + 6 * d) ** 2 == (a + 2 * d) * (a + 16 * d) and (600 - a) % d == 0:
                count += 1
    return str(count)


def al_08() -> str:
    """Extend the table of values by a vanishing fifth difference."""
    values = [Fraction(1, k * (k + 2)) for k in range(1, 6)]
    total = sum((-1) ** (5 - i) * math.comb(5, i) * values[i] for i in range(5))
    return str(-total)


def al_09() -> str:
    """Compute the largest root and its power with a thousand digits."""
    with localcontext() as context:
        context.prec = 1000
        r = Decimal(5)
        for _ in range(60):
            r -= (r**3 - 5 * r**2 + r + 1) / (3 * r**2 - 10 * r + 1)
        return str(int(r**1002) % 9)


def al_10() -> str:
    """Solve the relation as a linear system in the unknown values f(0), ..., f(25)."""
    rows = []
    for m in range(26):
        for n in range((25 - m) // 2 + 1):
            row = [Fraction(0)] * 27
            row[m + 2 * n] += 1
            row[m] -= 1
            row[n] -= 4
            row[26] = Fraction(12 * m * n - 10 * n)
            rows.append(row)
    return str(_solve(rows)[25])


def al_11() -> str:
    """Try all integer root triples and add the distinct values at 2."""
    values = set()
    for r, s in product(range(-120, 121), repeat=2):
        if r * s == 0 or 120 % (r * s):
            continue
        t = 120 // (r * s)
        if -r * s * t == -120 and (1 - r) * (1 - s) * (1 - t) == -144:
            values.add((2 - r) * (2 - s) * (2 - t))
    return str(sum(values))


def al_12() -> str:
    """Maximise over the triangle a + b + c = 23 by nested ternary searches."""

    def best(a: float) -> float:
        def negated(b: float) -> float:
            c = 23 - a - b
            return -(2 * a * b + 3 * b * c + 4 * c * a)

        return _minimum(negated, 0, 23 - a)

    return str(_rational(-_minimum(best, 0, 23)))


def al_13() -> str:
    """Find the seven roots numerically and add their fifteenth powers."""
    total = sum(root**15 for root in _roots([1, 0, 0, 0, -2, 0, 0, 5]))
    return str(_rational(total.real))


def ge_01() -> str:
    """Test every lattice point of the square."""
    count = 0
    for x, y in product(range(21), repeat=2):
        count += abs((11 - 3) * (y - 1) - (7 - 1) * (x - 3)) == 2 * 12
    return str(count)


def ge_02() -> str:
    """Place both legs numerically, in each leaning, and multiply the four distances."""
    values = set()
    for leans in product((1, -1), repeat=2):
        result = 1.0
        for leg, lean in zip((13, 15), leans, strict=True):
            run = lean * math.sqrt(leg**2 - 12**2)

            def gap(low: float, run: float = run, leg: int = leg) -> float:
                return abs(low * 6 + (low + run) * 6) / leg - 6

            low = _bisect(gap, -run / 2, 100)
            result *= math.hypot(low, 6) * math.hypot(low + run, 6)
        values.add(_rational(result))
    (answer,) = values
    return str(answer)


def ge_03() -> str:
    """Rotate a chord about P until P halves it, then apply the shoelace formula."""
    radius_squared = 4 * 41
    depth = math.sqrt(radius_squared - 10**2)
    px, py = -10.0 + 4, -depth

    def ends(angle: float) -> list[tuple[float, float]]:
        ux, uy = math.cos(angle), math.sin(angle)
        half = px * ux + py * uy
        root = math.sqrt(half**2 + radius_squared - px**2 - py**2)
        return [(px + t * ux, py + t * uy) for t in (-half + root, -half - root)]

    def imbalance(angle: float) -> float:
        first, second = (math.dist(end, (px, py)) for end in ends(angle))
        return first - second

    c, d = ends(_bisect(imbalance, 0.1, 3.0))
    corners = [(-10.0, -depth), c, (10.0, -depth), d]
    twice = sum(
        p[0] * q[1] - p[1] * q[0] for p, q in zip(corners, corners[1:] + corners[:1], strict=True)
    )
    return str(_rational(abs(twice) / 2))


def ge_04() -> str:
    """Intersect the plane with all twelve edges and measure the polygon exactly."""
    size = (Fraction(4), Fraction(6), Fraction(12))
    p = (Fraction(4), Fraction(0), Fraction(4))
    q = (Fraction(0), Fraction(6), Fraction(4))
    r = (Fraction(4, 3), Fraction(0), Fraction(12))
    normal = _cross([q[i] - p[i] for i in range(3)], [r[i] - p[i] for i in range(3)])

    def height(point: Sequence[Fraction]) -> Fraction:
        return sum((normal[i] * (point[i] - p[i]) for i in range(3)), Fraction(0))

    points = set()
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        for corner in product((0, 1), repeat=2):
            start = [Fraction(0)] * 3
            for i, bit in zip(others, corner, strict=True):
                start[i] = bit * size[i]
            end = list(start)
            end[axis] = size[axis]
            low, high = height(start), height(end)
            if low * high <= 0 and low != high:
                start[axis] = size[axis] * low / (low - high)
                points.add(tuple(start))
    middle = [sum(point[i] for point in points) / len(points) for i in range(3)]
    ordered = sorted(
        points,
        key=lambda point: math.atan2(point[1] - middle[1], point[0] - middle[0]),
    )
    total = [Fraction(0)] * 3
    for u, v in zip(ordered, ordered[1:] + ordered[:1], strict=True):
        total = [a + b / 2 for a, b in zip(total, _cross(u, v), strict=True)]
    return _surd(sum((entry**2 for entry in total), Fraction(0)))


def ge_05() -> str:
    """Minimise the weighted sum over the plane by nested ternary searches."""
    x = _bisect(lambda t: t**2 - (t - 6) ** 2 - 4**2 + 5**2, -20, 20)
    corners = [(0.0, 0.0, 1), (6.0, 0.0, 2), (x, math.sqrt(4**2 - x**2), 3)]

    def best(px: float) -> float:
        return _minimum(
            lambda py: sum(w * ((px - a) ** 2 + (py - b) ** 2) for a, b, w in corners), -10, 10
        )

    return str(_rational(_minimum(best, -10, 10)))


def ge_06() -> str:
    """Bisect for the water level, slicing the ball, and compare it with the top of the ball."""

    def surplus(level: float) -> float:
        def slice_area(z: float) -> float:
            return 36 - max(0.0, 25 - (z - 5) ** 2)

        pieces = 60
        step = level / pieces
        volume = 0.0
        for i in range(pieces):
            z = i * step
            ends = slice_area(z) + slice_area(z + step)
            volume += (ends + 4 * slice_area(z + step / 2)) * step / 6
        return volume - 36 * 3

    return str(2 * 5 - _rational(_bisect(surplus, 1.0, 10.0)))


def ge_07() -> str:
    """Locate both centres from equal-distance conditions and compare the gap squared."""
    corners = [(0, 0, 0), (12, 0, 0), (0, 6, 0), (0, 0, 18)]
    rows = []
    for corner in corners[1:]:
        square = sum(entry**2 for entry in corner)
        rows.append([Fraction(2 * entry) for entry in corner] + [Fraction(square)])
    outer = [float(entry) for entry in _solve(rows)]
    a, b, c = ([Fraction(entry) for entry in corner] for corner in corners[1:])
    normal = _cross([b[i] - a[i] for i in range(3)], [c[i] - a[i] for i in range(3)])
    length = math.sqrt(sum(float(entry) ** 2 for entry in normal))

    def gap(r: float) -> float:
        offset = sum(float(normal[i]) * (r - float(a[i])) for i in range(3))
        return abs(offset) / length - r

    r = _bisect(gap, 0.0, 4.0)
    return _surd(_rational(sum((entry - r) ** 2 for entry in outer)))


def ge_08() -> str:
    """Test every lattice point in a large window with the three dot products."""
    count = 0
    for x, y in product(range(-5, 30), range(-12, 13)):
        acute_at_o = 20 * x > 0
        acute_at_a = -20 * (x - 20) > 0
        acute_at_p = -x * (20 - x) + y * y > 0
        area_fits = y != 0 and 20 * abs(y) <= 2 * 90
        count += acute_at_o and acute_at_a and acute_at_p and area_fits
    return str(count)


def ge_09() -> str:
    """Solve for a linear form vanishing on the plane; add the exact pieces it is positive on."""
    # Values of the form at A, B, C, D with the value at A fixed to 1.
    rows = [
        [Fraction(1), Fraction(0), Fraction(0), Fraction(0), Fraction(1)],
        [Fraction(1, 3), Fraction(2, 3), Fraction(0), Fraction(0), Fraction(0)],
        [Fraction(0), Fraction(1, 2), Fraction(1, 2), Fraction(0), Fraction(0)],
        [Fraction(0), Fraction(0), Fraction(3, 4), Fraction(1, 4), Fraction(0)],
    ]
    values = [-value for value in _solve(rows)]
    share = Fraction(0)
    for i, value in enumerate(values):
        if value > 0:
            share += value**3 / math.prod(value - v for j, v in enumerate(values) if j != i)
    return str(360 * share)


def ge_10() -> str:
    """Cut a grid of cells by both diagonals and add the small triangles that are inside."""
    total = Fraction(0)
    for i, j in product(range(-10, 10), range(-20, 20)):
        x, y = Fraction(2 * i + 1, 2), Fraction(2 * j + 1, 4)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            px, py = x + Fraction(dx, 3), y + Fraction(dy, 6)
            if abs(px) <= 10 and abs(abs(px) - 2 * abs(py)) <= 4:
                total += Fraction(1, 8)
    return str(total)


def pr_01() -> str:
    """List all pairs of faces and compare the two counts."""
    prime = {n for n in range(2, 17) if all(n % k for k in range(2, n))}
    pairs = [(red, blue) for red in range(1, 7) for blue in range(1, 11) if red + blue in prime]
    return str(Fraction(sum(blue > red for red, blue in pairs), len(pairs)))


def pr_02() -> str:
    """Average the difference over all sets of five tickets."""
    draws = list(combinations(range(1, 13), 5))
    return str(Fraction(sum(draw[3] - draw[1] for draw in draws), len(draws)))


def pr_03() -> str:
    """Solve the six-state chain exactly."""
    half = Fraction(1, 2)

    def moves(shown: int) -> list[tuple[Fraction, int]]:
        return [(half, (shown + 1) % 7), (half, 2 * shown % 7)]

    return str(_expected_steps(range(1, 7), moves)[1])


def pr_04() -> str:
    """Enumerate labelled transfers and labelled draws."""
    first = [("r", i) for i in range(3)] + [("b", i) for i in range(5)]
    second = [("r", i) for i in range(10, 14)] + [("b", i) for i in range(10, 12)]
    seen = both = 0
    for moved in combinations(first, 2):
        for drawn in combinations(second + list(moved), 2):
            if all(colour == "r" for colour, _ in drawn):
                seen += 1
                both += all(colour == "r" for colour, _ in moved)
    return str(Fraction(both, seen))


def pr_05() -> str:
    """Enumerate whole hours and the order of the fractional parts, all equally likely."""
    good = total = 0
    for hours in product(range(3), repeat=3):
        for ranks in permutations(range(3)):
            u, v, w = (4 * hour + rank for hour, rank in zip(hours, ranks, strict=True))
            total += 1
            good += abs(u - v) < 4 and abs(v - w) < 4
    return str(Fraction(good, total))


def pr_06() -> str:
    """Average the squared number of equal neighbours over all colour words."""
    squares = []
    for red in combinations(range(9), 3):
        rest = [place for place in range(9) if place not in red]
        for white in combinations(rest, 3):
            word = ["r" if i in red else "w" if i in white else "k" for i in range(9)]
            squares.append(sum(x == y for x, y in pairwise(word)) ** 2)
    return str(Fraction(sum(squares), len(squares)))


def pr_07() -> str:
    """Solve the chain on the last face shown, with a start state for the first roll."""
    sixth = Fraction(1, 6)
    start, stop = 0, 7

    def moves(last: int) -> list[tuple[Fraction, int]]:
        if last == start:
            return [(sixth, face) for face in range(1, 7)]
        return [(sixth, stop if abs(face - last) <= 1 else face) for face in range(1, 7)]

    return str(_expected_steps(range(7), moves)[start])


def pr_08() -> str:
    """Enumerate all sequences of eight jumps, enough to pass both stones."""
    good = 0
    for jumps in product((1, 2, 3), repeat=8):
        place, visited = 0, set()
        for jump in jumps:
            place += jump
            visited.add(place)
        good += 5 in visited and 8 not in visited
    return str(Fraction(good, 3**8))


def pr_09() -> str:
    """Test the four angles of every quadrilateral with coordinates."""
    circle = [cmath.exp(2j * cmath.pi * k / 14) for k in range(14)]
    angles = 0
    quadrilaterals = list(combinations(circle, 4))
    for corners in quadrilaterals:
        for i in range(4):
            one = corners[i - 1] - corners[i]
            two = corners[(i + 1) % 4] - corners[i]
            angles += abs((one * two.conjugate()).real) < 1e-9
    return str(Fraction(angles, len(quadrilaterals)))


def pr_10() -> str:
    """Solve the chain on all pairs of displacements from the first token."""
    eighth = Fraction(1, 8)
    states = [(b, c) for b in range(5) for c in range(5) if (b, c) != (0, 0)]

    def moves(state: tuple[int, int]) -> list[tuple[Fraction, tuple[int, int]]]:
        b, c = state
        return [
            (eighth, ((b + y - x) % 5, (c + z - x) % 5)) for x, y, z in product((1, -1), repeat=3)
        ]

    return str(_expected_steps(states, moves)[(1, 2)])


CHECKS: dict[str, Callable[[], str]] = {
    "math-al-01": al_01,
    "math-al-02": al_02,
    "math-al-03": al_03,
    "math-al-04": al_04,
    "math-al-05": al_05,
    "math-al-06": al_06,
    "math-al-07": al_07,
    "math-al-08": al_08,
    "math-al-09": al_09,
    "math-al-10": al_10,
    "math-al-11": al_11,
    "math-al-12": al_12,
    "math-al-13": al_13,
    "math-ge-01": ge_01,
    "math-ge-02": ge_02,
    "math-ge-03": ge_03,
    "math-ge-04": ge_04,
    "math-ge-05": ge_05,
    "math-ge-06": ge_06,
    "math-ge-07": ge_07,
    "math-ge-08": ge_08,
    "math-ge-09": ge_09,
    "math-ge-10": ge_10,
    "math-pr-01": pr_01,
    "math-pr-02": pr_02,
    "math-pr-03": pr_03,
    "math-pr-04": pr_04,
    "math-pr-05": pr_05,
    "math-pr-06": pr_06,
    "math-pr-07": pr_07,
    "math-pr-08": pr_08,
    "math-pr-09": pr_09,
    "math-pr-10": pr_10,
}
