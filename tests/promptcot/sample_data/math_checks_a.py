"""Independent brute-force confirmations of the answers in ``sample_data/math_a.jsonl``.

Every function enumerates, simulates or runs a state-by-state dynamic programme straight from the
statement of its problem and returns the answer as a string; none uses the intended derivation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import combinations, pairwise, permutations, product
from math import comb, gcd, lcm


def _digits(n: int, base: int = 10) -> list[int]:
    """Digits of a non-negative integer in the given base, lowest first."""
    out = [n % base]
    while n >= base:
        n //= base
        out.append(n % base)
    return out


def _divisors(n: int) -> list[int]:
    """All positive divisors by trial division up to the square root."""
    small = [d for d in range(1, int(n**0.5) + 2) if d * d <= n and n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def _runs(word: str) -> Iterator[tuple[str, int]]:
    """Maximal constant blocks of a word as (letter, length)."""
    start = 0
    for i in range(1, len(word) + 1):
        if i == len(word) or word[i] != word[start]:
            yield word[start], i - start
            start = i


def nt_01() -> str:
    """Lists both beacons' flash times up to 1000 seconds and intersects the lists."""
    red = set(range(5, 1001, 14))
    green = set(range(11, 1001, 18))
    return str(len(red & green))


def nt_02() -> str:
    """Tests both properties on every divisor of the number."""
    squares = {k * k for k in range(1, 12**2 * 35 + 1)}
    divisors = _divisors(12**4 * 35**2)
    return str(sum((d in squares) != (d % 10 == 0) for d in divisors))


def nt_03() -> str:
    """Tries every three-digit integer."""
    hits = [n for n in range(100, 1000) if sum(_digits(n)) + sum(_digits(n + 8)) == 24]
    return str(len(hits))


def nt_04() -> str:
    """Presses the button six times on every dial that can close up (n divides 4**6 - 1)."""
    count = 0
    for n in range(2, 4**6):
        p, returns = 1, []
        for press in range(1, 7):
            p = 4 * p % n
            if p == 1:
                returns.append(press)
        count += returns[:1] == [6]
    return str(count)


def nt_05() -> str:
    """Tries every pair up to 480; the gcd divides 60, so the lcm is at most 60 + 7 * 60."""
    top = 60 + 7 * 60
    pairs = product(range(1, top + 1), repeat=2)
    return str(sum(lcm(a, b) == 60 + 7 * gcd(a, b) for a, b in pairs))


def nt_06() -> str:
    """Computes both digit sums of every positive integer below 6561."""
    return str(sum(sum(_digits(n, 9)) == 2 * sum(_digits(n, 3)) for n in range(1, 6561)))


def nt_07() -> str:
    """Tests every n from 9 to 1000 for divisibility by the integer part of n / 9."""
    return str(sum(n % (n // 9) == 0 for n in range(9, 1001)))


def nt_08() -> str:
    """Tries every code from 1 to 5040."""
    return str(sum((x**3 - 4 * x) % 5040 == 0 for x in range(1, 5041)))


def nt_09() -> str:
    """Multiplies the product out and strips factors of 45 one at a time."""
    value = 1
    for k in range(1, 200, 2):
        value *= k
    zeros = 0
    while value % 45 == 0:
        value //= 45
        zeros += 1
    return str(zeros)


def nt_10() -> str:
    """Takes the gcd of numerator and denominator for every n."""
    return str(sum(gcd(n**3 + 4 * n + 40, n + 5) == 1 for n in range(1, 1051)))


def nt_11() -> str:
    """Tests every lattice point of the 77 by 77 square."""
    return str(sum((x * x + 3 * y * y) % 77 == 5 for x, y in product(range(77), repeat=2)))


def nt_12() -> str:
    """Writes down all 256 ticket numbers."""
    return str(sum(int("".join(t)) % 33 == 0 for t in product("27", repeat=8)))


def nt_13() -> str:
    """Adds up every n up to 220 that satisfies the congruence."""
    return str(sum(n for n in range(1, 221) if n * 3**n % 55 == 2))


def nt_14() -> str:
    """Counts the divisors that are multiples of 6 for every n up to 600."""
    good = [n for n in range(1, 601) if sum(d % 6 == 0 for d in _divisors(n)) == 4]
    return str(len(good))


def nt_15() -> str:
    """Forms the product of every ordered triple of divisors of 720."""
    cubes = {k**3 for k in range(1, 721)}
    return str(sum(a * b * c in cubes for a, b, c in product(_divisors(720), repeat=3)))


def nt_16() -> str:
    """Divides every entry of row 388 by 5 and by 25."""
    row = [comb(388, k) for k in range(389)]
    return str(sum(v % 5 == 0 and v % 25 != 0 for v in row))


def nt_17() -> str:
    """Multiplies the integers and adds the digits of the product."""
    return str(sum(_digits(58 * int("3" * 25))))


def co_01() -> str:
    """Checks all 7! orders; letters are atlases (A the oldest), digits are novels."""
    count = 0
    for order in permutations("ABCD123"):
        apart = not any(x.isdigit() and y.isdigit() for x, y in pairwise(order))
        count += apart and "A" not in (order[0], order[-1])
    return str(count)


def co_02() -> str:
    """Walks every arrangement of seven east and five north steps."""
    count = 0
    for ups in combinations(range(12), 5):
        x = y = 0
        ok = all(b - a > 1 for a, b in pairwise(ups))
        for i in range(12):
            x, y = (x, y + 1) if i in ups else (x + 1, y)
            ok = ok and (x, y) != (3, 2)
        count += ok
    return str(count)


def co_03() -> str:
    """Checks the blocks of all 3**9 bead strings."""
    count = 0
    for letters in product("RBG", repeat=9):
        runs = list(_runs("".join(letters)))
        count += all(not (c == "R" and k % 2) and not (c == "B" and k > 1) for c, k in runs)
    return str(count)


def co_04() -> str:
    """Collects orbits of all balanced colorings under the six rotations of the prism."""
    turn = (1, 2, 0, 4, 5, 3)
    flip = (3, 5, 4, 0, 2, 1)
    group = {tuple(range(6))}
    while True:
        bigger = group | {tuple(g[h[i]] for i in range(6)) for g in group for h in (turn, flip)}
        if bigger == group:
            break
        group = bigger
    seen = set()
    for c in set(permutations("RRGGBB")):
        seen.add(min(tuple(c[g[i]] for i in range(6)) for g in group))
    return str(len(seen))


def co_05() -> str:
    """Labels every pile size as won or lost by looking at all of its moves."""
    wins = [False]
    for n in range(1, 124):
        wins.append(any(not wins[n - t] for t in (1, 4, 6) if t <= n))
    return str(wins[1:].count(False))


def co_06() -> str:
    """Labels every square of the board as won or lost for the player to move."""

    @cache
    def wins(x: int, y: int) -> bool:
        moves = [(x - s, y) for s in (1, 2)] + [(x, y - s) for s in (1, 2, 3)]
        return any(not wins(a, b) for a, b in moves if a >= 0 and b >= 0)

    return str(sum(not wins(x, y) for x, y in product(range(12), repeat=2)))


def co_07() -> str:
    """Adds the 15 bridges one by one, tracking how many bridge sets give each degree list."""
    edges = list(combinations(range(6), 2))
    states: Counter[tuple[int, ...]] = Counter({(0,) * 6: 1})
    for a, b in edges:
        step: Counter[tuple[int, ...]] = Counter()
        for degrees, ways in states.items():
            step[degrees] += ways
            raised = tuple(d + (i in (a, b)) for i, d in enumerate(degrees))
            step[raised] += ways
        states = step
    return str(sum(ways for degrees, ways in states.items() if set(degrees) <= {1, 2}))


def co_08() -> str:
    """Tries all 4**7 assignments; guide 0 is Ana and visitors 0 and 1 are the brothers."""
    count = 0
    for guides in product(range(4), repeat=7):
        count += guides.count(0) == 2 and len(set(guides)) == 4 and guides[0] != guides[1]
    return str(count)


def co_09() -> str:
    """Pushes the exact distribution over the five corners through six moves."""
    near = {0: (1, 2, 3, 4), 1: (0, 2, 4), 2: (0, 1, 3), 3: (0, 2, 4), 4: (0, 1, 3)}
    dist = {0: Fraction(1)}
    for _ in range(6):
        step: dict[int, Fraction] = {}
        for v, p in dist.items():
            for w in near[v]:
                step[w] = step.get(w, Fraction(0)) + p / len(near[v])
        dist = step
    return str(dist[0])


def co_10() -> str:
    """Draws every tag that avoids a fifth equal gap (gaps are independent), then one more."""
    held: Counter[int] = Counter()
    drawn = 0
    for tag in range(10, 100):
        low, high = _digits(tag)
        if held[abs(high - low)] < 4:
            held[abs(high - low)] += 1
            drawn += 1
    return str(drawn + 1)


def co_11() -> str:
    """Tries all 2**12 on-off patterns of the panel."""
    rows = [r for r in product((0, 1), repeat=4) if sum(r) % 2 == 0]
    return str(sum(all(map(any, zip(*p, strict=True))) for p in product(rows, repeat=3)))


def co_12() -> str:
    """Searches all positions reachable by flipping three neighboring coins out of twelve."""
    moves = [sum(1 << (i + j) % 12 for j in range(3)) for i in range(12)]
    seen, frontier = {0}, [0]
    while frontier:
        state = frontier.pop()
        for move in moves:
            if state ^ move not in seen:
                seen.add(state ^ move)
                frontier.append(state ^ move)
    return str(len(seen))


def co_13() -> str:
    """Rides all 2**12 sequences of up and down trips."""
    count = 0
    for steps in product((1, -1), repeat=12):
        floor = 0
        for s in steps:
            floor += s
            if not -1 <= floor <= 3:
                break
        else:
            count += floor == 0
    return str(count)


def co_14() -> str:
    """Lists every way of sharing 24 seeds among the four pots."""
    count = 0
    for a, b, c in product(range(25), repeat=3):
        d = 24 - a - b - c
        count += d >= 0 and a < b and c % 2 == 1 and d % 2 == 1
    return str(count)


def co_15() -> str:
    """Tries all 3**8 colorings of the two rows of the quilt."""
    count = 0
    for c in product(range(3), repeat=8):
        top, low = c[:4], c[4:]
        ok = all(x != y for x, y in zip(top, low, strict=True))
        ok = ok and all(r[i] != r[i + 1] for r in (top, low) for i in range(3))
        count += ok and top[0] == low[3]
    return str(count)


def co_16() -> str:
    """Tries all ordered triples of subsets of a five-element set as bit masks."""
    count = 0
    for a, b, c in product(range(32), repeat=3):
        count += (a & b) & ~c == 0 and a | b | c == 31 and c.bit_count() % 2 == 0
    return str(count)


CHECKS: dict[str, Callable[[], str]] = {
    "math-nt-01": nt_01,
    "math-nt-02": nt_02,
    "math-nt-03": nt_03,
    "math-nt-04": nt_04,
    "math-nt-05": nt_05,
    "math-nt-06": nt_06,
    "math-nt-07": nt_07,
    "math-nt-08": nt_08,
    "math-nt-09": nt_09,
    "math-nt-10": nt_10,
    "math-nt-11": nt_11,
    "math-nt-12": nt_12,
    "math-nt-13": nt_13,
    "math-nt-14": nt_14,
    "math-nt-15": nt_15,
    "math-nt-16": nt_16,
    "math-nt-17": nt_17,
    "math-co-01": co_01,
    "math-co-02": co_02,
    "math-co-03": co_03,
    "math-co-04": co_04,
    "math-co-05": co_05,
    "math-co-06": co_06,
    "math-co-07": co_07,
    "math-co-08": co_08,
    "math-co-09": co_09,
    "math-co-10": co_10,
    "math-co-11": co_11,
    "math-co-12": co_12,
    "math-co-13": co_13,
    "math-co-14": co_14,
    "math-co-15": co_15,
    "math-co-16": co_16,
}
