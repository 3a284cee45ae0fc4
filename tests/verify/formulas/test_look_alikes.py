"""Answers that differ though they look alike, and answers that look different and are equal.

A line of a table holds pairs, ``a <> b``, three spaces apart; who is right was worked by hand.
They go through the same processes as in a run, math-verify included.
"""

import random
import re
import time

import pytest

from promptcot.records import Outcome
from verify import AnswerVerifier
from verify.formulas.deciding import decide

UNEQUAL = {
    "near-miss numbers": r"""
    1000000 <> 1000001   3.14159 <> 3.14160   0.001 <> 0.0001
    12345678901234567890 <> 12345678901234567891   2/3 <> 0.66   1/3 <> 33/100   0.5 <> 0.499
    100 <> 99.99   \pi <> 3.15   \pi <> \frac{22}{7}   \sqrt{2} <> 1.42   \sqrt{2} <> 1.4
    \frac{22}{7} <> 3.15   2^{64} <> 2^{64}-1   1e5 <> 1e6
    1.5\times 10^{3} <> 1.5\times 10^{4}   6.02\times 10^{23} <> 6.03\times 10^{23}
    0.1 <> 0.10001   1,000 <> 1.000   1,234 <> 1.234   12,345 <> 12.345   1.234 <> 1234
    10^{10} <> 10^{11}   7 <> 7.001   144 <> 144.4   0.3333 <> 0.3334   \frac{1}{3} <> 0.334
    2.5 <> 2   2.50 <> 2.49   1 2 <> 12   1 200 <> 12 00   3,4 <> 34   1,2 <> 12   1,2,3 <> 123
    12,34 <> 1234   1,23 <> 123   \frac{355}{113} <> \pi   e^{\pi\sqrt{163}} <> 640320^3+744
    0.999 <> 1   0.99999 <> 1   10! <> 3628801   \sqrt[3]{2} <> \sqrt{2}
    \sqrt[3]{2} <> 3\sqrt{2}   2^{3} <> 23   2^3 <> 6   \frac{2}{3} <> 23
    \frac{12}{3} <> \frac{1}{23}   \log_2 8 <> 8   \log_2 3 <> \log_3 2   \ln 2 <> \log_{10} 2
    \binom{5}{2} <> \frac{5}{2}   \binom{5}{2} <> \binom{2}{5}   5! <> 5   5! <> 5!!   6!! <> 6!
    1.415x <> \sqrt2 x   3.142x <> \frac{22}{7}x   1.4145x <> \sqrt2 x   2.718+x <> e+x+0.001
    0.3334x <> \frac{x}{3}   3.1426r^2 <> \pi r^2
    """,
    "sign": r"""
    5 <> -5   x-1 <> 1-x   -\frac{1}{2} <> \frac{1}{2}   \frac{-1}{-2} <> -\frac12
    (1,-2) <> (1,2)   -\sqrt{3} <> \sqrt{3}   -x^2 <> (-x)^2   -2^2 <> (-2)^2   a-b <> b-a
    1-i <> 1+i   \pm 3 <> 3   \pm 3 <> -3   -\infty <> \infty   2-3i <> -2+3i
    \pm\sqrt{2} <> \sqrt{2}   -0.5 <> 0.5   x^{-1} <> x^{1}   e^{x} <> e^{-x}   −7 <> 7
    - 3 <> 3
    """,
    "missing, extra or exchanged parts": r"""
    1,2 <> 1   1,2 <> 2   x=1,x=2 <> x=1   x=1 \text{ or } x=2 <> x=2   \{1,2,3\} <> \{1,2\}
    (1,2),(3,4) <> (1,2)   (1,2),(3,4) <> (1,2),(3,5)   0,1,-1 <> 1,-1   2,3 <> 2,3,5
    \{0\} <> \emptyset   0 <> \emptyset   1 <> none   2 <> no solution   3 \text{ and } 5 <> 3
    k=1,k=2 <> k=1,k=3   1,1 <> 1   2,2,3 <> 2,3,3   \emptyset <> \mathbb{R}   x=0 or x=1 <> x=1
    \{1\} <> \{1,2\}   (1,2) or (3,4) <> (1,2) or (4,3)   1 or 2 <> 1 and 3
    n=4k or n=4k+1 <> n=4k or n=4k+3   a=1,b=2,c=3 <> a=1,b=3,c=2   (a,b)=(1,2) <> (a,b)=(2,1)
    (a,b)=(1,2) <> (b,a)=(1,2)   (x,y)=(3,5) <> x=5,y=3   x=5,y=3 <> (3,5)
    A=2,B=-1 <> A=-1,B=2   y=1,x=2 <> (1,2)   5 boys and 3 girls <> 3 boys and 5 girls
    2 m and 3 cm <> 3 m and 2 cm   f(1)=2, f(2)=1 <> f(1)=1, f(2)=2
    \sin A=\frac12,\cos A=\frac13 <> \sin A=\frac13,\cos A=\frac12   2x+3, x-1 <> 2x-3, x+1
    """,
    "interval ends": r"""
    (0,1) <> [0,1]   [0,1) <> (0,1]   [0,1) <> [0,1]   (0,1) <> (0,2)   (0,\infty) <> [0,\infty)
    x>0 <> x\ge 0   x>0 <> x<0   0<x<1 <> 0\le x<1   0<x<1 <> 0<x<2   (-\infty,2) <> (2,\infty)
    (-\infty,2)\cup(2,\infty) <> (-\infty,\infty)
    (-\infty,2)\cup(3,\infty) <> (-\infty,2)\cup[3,\infty)   (0,1)\cup(2,3) <> (0,3)
    x>3 <> (-\infty,3)   x\ge 3 <> (3,\infty)   \{x|x>1\} <> \{x|x\ge 1\}
    \mathbb{R} <> [0,\infty)   1\le x\le 5 <> 1<x<5   x<-1 or x>1 <> -1<x<1   [1,2] <> \{1,2\}
    (1,2)\cup(3,4) <> (1,2),(3,5)   x > 3 <> y < 3   x>3 <> 3>x   [2,5) <> (2,5)
    \infty <> -\infty   \infty <> 10^{100}   (-\infty,\infty) <> (\infty,-\infty)
    2^{\infty} <> 2   0<x<1 <> 0<y<2   x<y <> y<x   a>b <> b>a   x>1,y>2 <> x>2,y>1
    x\in[1,2] <> x\in(1,2)   x\in\{1,2\} <> x\in[1,2]   x\notin[1,2] <> x\in[1,2]
    \mathbb{R}\setminus\{1\} <> \mathbb{R}
    \mathbb{R}\setminus\{1\} <> \mathbb{R}\setminus\{2\}   (0,1)\cap(0,2) <> (0,1)\cup(0,2)
    x < 1 and x > -1 <> x<1 or x>-1   -1<x and x<1 <> (-\infty,1)\cup(-1,\infty)
    x\ne 1, x\ne 2 <> x\ne 1   x\neq 0 <> \mathbb{R}
    [0,1]\cup[1,2] <> (0,2]   (0,1)\cup(1,2) <> (0,2)   [0,1)\cup(1,2] <> [0,2]
    (0,1)\cup\{2\} <> (0,1)   (-\infty,1)\cup[1,\infty) <> (-\infty,1)   [0,a]\cup[a,2] <> [0,2]
    \{0,1\}\cup\{2\} <> [0,2]
    """,
    "percent": r"""
    50% <> 0.05   50% <> 5   5% <> 0.5   12% <> 12.5%   0.5% <> 50   0.5% <> 0.5%%
    25\% <> \frac{1}{5}   150\% <> 1.05   20% <> -20%   10% <> 1000   33\% <> \frac13
    33.3% <> 0.33   \frac{1}{2}\% <> 50\%   99% <> 1
    """,
    "bases": r"""
    1010_2 <> 1010_3   1010_2 <> 1010   777_8 <> 777_9   A1_{16} <> A1_{12}   101_2 <> 5
    12_3 <> 12_4   10_2 <> 2   123_4 <> 27   100_{2} <> 100_{3}   1A_{16} <> 1B_{16}
    """,
    "labels and names": r"""
    x <> y   2x+1 <> 2y+1   x^2 <> x^3   xy <> x+y   x_1 <> x_2   a+b <> a+c   n^2 <> n^3
    f(x)=x^2 <> f(x)=x^3   f(x)=x^2 <> f(y)=y^3   f(x)=2x <> g(x)=3x   \alpha <> \beta
    x=3 <> y=4   y=x <> y=-x   y=2x <> x=2y   y=2x+1 <> y=2x-1   a^b <> b^a   x' <> x
    x=2,y=3 <> x=3,y=2   x=1, y=2 <> 2,1   a=1,b=2 <> a=2,b=1   X <> x   k^2 <> K^2
    \theta <> \phi   \frac{a}{b} <> \frac{b}{a}   n(n+1)/2 <> n(n-1)/2
    \frac{n(n+1)}{2} <> \frac{n(n+1)}{3}   2^n <> 2^{n-1}   2^n-1 <> 2^{n+1}-1   (x,y) <> (y,x)
    m=2,n=5 <> m=5,n=2   x^2+y^2=1 <> x^2+y^2=2   x^2+y^2=1 <> x^2-y^2=1   3x+4y=5 <> 3x+4y=6
    x+y=1 <> x-y=1   x_{1}=2,x_{2}=3 <> x_{1}=3,x_{2}=2   \text{max} = 3 <> \text{min} = 3
    Maximum: 3 <> Minimum: 3   P(A)=1/2 <> P(B)=1/2   f(2)=3 <> f(3)=4   f(2)=3 <> f(3)=3
    1+1=3 <> 2+2=5   f(x)=2x <> f'(x)=2x   \frac{a}{b}=3 <> \frac{b}{a}=3   x>3 <> y>3
    x=3 <> y=3   \text{Area} = 5 <> \text{Perimeter} = 5   f(x)=2x <> f^{-1}(x)=2x
    AB=5 <> CD=5   a_1=3 <> a_2=3   \angle A=30^\circ <> \angle B=30^\circ   x^2=3 <> x=3
    x+1=3 <> x=3
    """,
    "tuples": r"""
    (1,2) <> (2,1)   (1,2,3) <> (3,2,1)   (1,2) <> (1,2,0)   (1,2) <> 12   (1,2) <> 1.2
    (0,0) <> 0   (1,2) <> (1;3)   (a,b) <> (b,a)   (3,4) <> 3,5   (3,4) <> 4,3
    (1,2),(3,4) <> (2,1),(4,3)   (1,2),(3,4) <> (1,3),(2,4)   (1,2,3,4) <> (1,2),(3,4)
    ((1,2),3) <> (1,(2,3))   (2,2t) <> (2,3t)   (t,2t) <> (2t,t)   (x,x+1) <> (x,x-1)
    (1,x) <> (x,1)   \langle 1,2\rangle <> \langle 2,1\rangle
    """,
    "units": r"""
    10 cm <> 10 m   5\text{ kg} <> 5\text{ g}   3 hours <> 3 minutes   1 km <> 100 m
    5\text{ cm} <> 5\text{ cm}^2   5\text{ cm}^2 <> 5\text{ cm}^3
    5\text{ m}^2 <> 500\text{ cm}^2   60 mph <> 60 km/h   60\text{ km/h} <> 60\text{ m/s}
    5\text{ m/s} <> 5\text{ m}   5 dollars <> 5 cents   \$5 <> 5 cents   30 days <> 30 weeks
    10\text{ L} <> 10\text{ mL}   5 inches <> 5 feet   2 feet <> 2 inches   2 pounds <> 2 ounces
    10 years <> 10 months   10 square feet <> 10 feet   10 cubic feet <> 10 square feet
    20\text{ N} <> 20\text{ J}   20\text{ W} <> 20\text{ kW}   7 miles <> 7 km
    5\text{ kg} <> 5\text{ s}   3 liters <> 3 gallons   5 mm <> 5 cm   90^\circ <> 91^\circ
    90^\circ <> 90 cm   5^\circ <> 5\text{ rad}   50 cents <> 50 dollars   3 apples <> 4 apples
    12\text{ sq cm} <> 12\text{ cm}   25 m^2 <> 25 m   1 hour <> 6 minutes   5 yards <> 5 feet
    10% <> 10 cm   20 degrees Celsius <> 20 degrees Fahrenheit   5 more <> 5 less
    10 north <> 10 south   5 wins <> 5 losses   10 boys <> 10 girls   5 red <> 5 blue
    3 above <> 3 below   20 heads <> 20 tails   10 cm <> 10 apples
    15 to the left <> 15 to the right   2nd <> 3rd   Monday 5 <> Tuesday 5   5 a.m. <> 5 p.m.
    5 am <> 5 pm   100 BC <> 100 AD
    """,
    "angles": r"""
    90^\circ <> \pi   45^\circ <> \frac{\pi}{3}   60^\circ <> 60'   30^\circ 30' <> 30^\circ
    \frac{\pi}{6} <> 60^\circ   k\pi <> 2k\pi   \frac{\pi}{2}+k\pi <> \frac{\pi}{2}+2k\pi
    \sin 30^\circ <> \cos 30^\circ   \sin x <> \cos x   \sin^2 x <> \sin x^2
    \sin 2x <> 2\sin x   \tan^{-1} x <> \frac{1}{\tan x}   \arcsin x <> \arccos x   180 <> \pi
    """,
    "constant of integration": r"""
    \frac{x^2}{2}+C <> \frac{x^2}{2}   x^2+C <> x^2   \ln|x|+C <> \ln x   e^x+C <> e^x+1
    x+C <> x   \sin x+C <> \cos x+C   x^2+C <> 2x^2+C
    """,
    "formulas": r"""
    (x+1)^2 <> x^2+1   (a+b)^2 <> a^2+b^2   \sqrt{a+b} <> \sqrt a+\sqrt b
    \frac{1}{x+y} <> \frac1x+\frac1y   x^{2y} <> x^2y   2^{x+1} <> 2^x+1   e^{2x} <> e^2x
    \log(xy) <> \log x\log y   |x| <> -x   \sqrt{x^2} <> -x   \lfloor x\rfloor <> x
    \lceil x\rceil <> \lfloor x\rfloor   n! <> n   \frac{x}{2}y <> \frac{x}{2y}
    1/2x <> 1/(2+x)   x^3-3x+2 <> x^3-3x-2   \sqrt{2}+\sqrt{3} <> \sqrt{5}
    \sqrt{6}+\sqrt{2} <> \sqrt{6}-\sqrt{2}   3\sqrt{2} <> 2\sqrt{3}
    \frac{\sqrt{3}}{2} <> \frac{\sqrt{2}}{3}   \frac{\sqrt{3}}{2} <> \sqrt{\frac{3}{2}}
    \frac{1+\sqrt5}{2} <> \frac{1-\sqrt5}{2}   x^2-x <> x^2-1   10x <> x10+1   x^4-1 <> x^2-1
    \max(a,b) <> a   \max(a,b) <> \min(a,b)   (x-1)(x-2)(x-3)(x-4) <> 0   x^2+10^{-30} <> x^2
    x+10^{-60} <> x   \sum_{i=1}^n i <> \sum_{i=1}^n i^2   \sum_{i=1}^n i <> \sum_{i=0}^{n-1} i
    \int_0^1 x\,dx <> \int_0^2 x\,dx   \int x\,dx <> \int x^2\,dx
    \lim_{x\to 0} f(x) <> \lim_{x\to 1} f(x)   f'(x) <> f(x)   f(x) <> f(y)   f(2) <> f(3)
    \overline{AB} <> \overline{CD}   \vec{a} <> a   \hat{x} <> x   2\cdot 3^{n} <> 6^{n}
    (-1)^n <> 1   (-1)^n <> (-1)^{n+1}   \cos n\pi <> 1
    \frac{n^2}{4} <> \lfloor \frac{n^2}{4}\rfloor   (n-1)! <> n!
    \frac{1}{2}\ln 3 <> \ln\frac{3}{2}   x^2 + 2x + 1 = 0 <> (x+1)^2   |x-3| <> 3-x
    |x+3| <> x+3   |x-100| <> 100-x   \max(x,3) <> 3   \sqrt{(x-5)^2} <> 5-x
    \lfloor x\rfloor <> \lceil x\rceil-1   \max(a,b) <> b   |a-b| <> a-b   \min(x,-5) <> -5
    \lfloor x/10\rfloor <> 0   |x-1|+|x-2| <> 2x-3   \text{sgn}(x) <> 1
    """,
    "equations": r"""
    x=3 <> 3=4   y=x+1 <> y=x-1   y=3 <> x=3,y=4   x+y=3 <> 3   x^2=4 <> x=2   x^2=4 <> 4
    2x=6 <> 6   x=y <> x=2y   x\ne 3 <> x=3   x\ne 3 <> 3   x\ne 3 <> x\ne 4   x<3 <> 3
    x>3 <> 3   a=b=c <> a=b   f(x)=3 <> f(3)   1=1 <> 1=2   x=1=2 <> x=1
    x\equiv 1\pmod 3 <> x\equiv 2\pmod 3   x\equiv 1\pmod 3 <> x\equiv 1\pmod 4
    x\equiv 1\pmod 3 <> 1   x \equiv 1 \pmod{3} <> x=1   x^2+y^2=4 <> x^2+y^2=16
    a<b<c <> c<b<a   y=2x+3 <> 2x+3=0   y=0 <> x=0
    """,
    "matrices": r"""
    \begin{pmatrix}1&2\\3&4\end{pmatrix} <> \begin{pmatrix}1&3\\2&4\end{pmatrix}
    \begin{pmatrix}1&2\\3&4\end{pmatrix} <> \begin{pmatrix}1&2\\3&5\end{pmatrix}
    \begin{pmatrix}1\\2\end{pmatrix} <> \begin{pmatrix}2\\1\end{pmatrix}
    \begin{pmatrix}1\\2\end{pmatrix} <> (1,3)   \begin{pmatrix}1&0\\0&1\end{pmatrix} <> 1
    \begin{vmatrix}1&2\\3&4\end{vmatrix} <> -3
    2\begin{pmatrix}1\\2\end{pmatrix} <> \begin{pmatrix}1\\2\end{pmatrix}
    \begin{pmatrix}1\\2\end{pmatrix} <> \begin{pmatrix}-1\\-2\end{pmatrix}
    \begin{pmatrix}1&2\\3&4\end{pmatrix} <> (1,2,3,4)
    \begin{vmatrix}1&2\\3&4\end{vmatrix} <> \begin{pmatrix}1&2\\3&4\end{pmatrix}
    \begin{pmatrix}1&2\\3&4\end{pmatrix}^{-1} <> \begin{pmatrix}1&2\\3&4\end{pmatrix}
    -\begin{pmatrix}1\\2\end{pmatrix} <> \begin{pmatrix}1\\2\end{pmatrix}
    \begin{vmatrix}1&2\\3&4\end{vmatrix} <> 2
    \begin{bmatrix}1&2\end{bmatrix} <> \begin{bmatrix}1\\2\end{bmatrix}
    """,
    "ratios and times": r"""
    1:2 <> 2:1   2:3 <> 3:2   1:2:3 <> 3:2:1   1:2 <> 1:3   3:30 <> 3:45
    3:30 p.m. <> 3:30 a.m.   12:00 a.m. <> 12:00 p.m.   1:2:3 <> 1:2   1:2 <> 2   1:2 <> 12
    """,
    "choices": r"""
    A <> B   (A) <> (B)   (C) 12 <> (D) 12   C <> (B) C   A <> a+1   A, B <> A   A, B <> A, C
    ABC <> AB   (A) 5 <> (B) 5   B <> D   (A)(B+1) <> (A)(B+2)   (A)+B <> (A)-B   A:B <> A:C
    (A)^2 <> (A)^3   (B)x <> (B)y   C: 5x <> D: 5x   A. <> B.
    """,
    "words": r"""
    yes <> no   true <> false   even <> odd   Alice <> Bob   red <> blue   Monday <> Tuesday
    increasing <> decreasing   one <> two   twelve <> 11   infinite <> finite   no <> none
    zero <> one   convergent <> divergent   Navin <> Kevin   not prime <> prime
    sometimes <> always   5 apples and 3 pears <> 3 apples and 5 pears   east <> west
    right <> left   acute <> obtuse
    """,
    "mixed numbers": r"""
    2\frac{1}{3} <> \frac{2}{3}   2\frac13 <> 2+3   1 1/2 <> 11/2   1\frac{1}{2} <> 1.2
    3\frac{1}{4} <> 3.4   -1\frac{1}{2} <> -\frac12   -1\frac12 <> -0.5
    7\frac{3}{4} <> \frac{73}{4}   2 3/4 <> 23/4   2\frac{1}{3} <> 2\cdot\frac{1}{3}
    """,
    "complex": r"""
    i <> -i   3+4i <> 4+3i   3+4i <> 5   3+4i <> 3-4i   e^{i\pi/3} <> e^{-i\pi/3}   2i <> 2
    1+i <> (1,1)   i^2 <> 1   |3+4i| <> 3+4i   a+bi <> a-bi   1+2j <> 1+2i+1
    """,
    "repeating decimals": r"""
    0.\overline{3} <> 0.3   0.\overline{12} <> 0.12   0.1\overline{6} <> 0.16
    0.\overline{9} <> 0.9   0.\overline{36} <> 0.\overline{63}   0.\overline{3} <> 0.33
    0.\overline{142857} <> 0.\overline{142858}   0.333... <> 0.3   0.12... <> 0.13...
    """,
    "unknown commands": r"""
    \nabla\cdot F <> \nabla\times F   \square <> \triangle   \clubsuit <> \spadesuit
    \triangle ABC <> \angle ABC   A \cup B <> A \cap B   A\subset B <> A\supset B
    p \land q <> p \lor q   \exists x <> \forall x   A \cup B <> A B   \angle A <> \angle B
    A \setminus B <> B \setminus A   \neg p <> p   x \parallel y <> x \perp y
    \mathbb{Z} <> \mathbb{Q}   \mathbb{N} <> \mathbb{R}   \mathbb{C} <> \mathbb{R}
    a \mid b <> a \nmid b   x \in A <> x \notin A   \partial x <> x   p \to q <> q \to p
    p \Rightarrow q <> p \Leftrightarrow q   \heartsuit <> hearts
    """,
    "conditions": r"""
    3 if n is even <> 3 if n is odd   x^2 \text{ for } x>0 <> x^2 \text{ for } x<0
    n \text{ where } n \text{ is even} <> n \text{ where } n \text{ is odd}
    x = 2k\pi, k \in \mathbb{Z} <> x = k\pi, k\in\mathbb{Z}
    """,
    "spaces": r"""
    1 2 3 <> 123   x 2 <> x_2   x2 <> x^2   x_2 <> x^2   x_{12} <> x_1 2   x^{12} <> x^1 2
    2 x 3 <> 2x^3   a b <> a,b   12 <> 1\2   1/2/3 <> 1/(2/3)   1/2x <> \frac{1}{2x}+1
    3 4/5 <> 34/5   -1 1/2 <> -11/2   1 000 1 <> 10001   0 5 <> 05   0.5 5 <> 0.55   3. 5 <> 3.5
    1 . 5 <> 15   10 3 <> 10^3   2 000 000 <> 2 000   1 0 <> 10   12 3 <> 123   (1 2) <> (12)
    (1 2, 3) <> (12,3)   \frac{1 2}{3} <> \frac{12}{3}   1\,2 <> 12   3\ 5 <> 35   1~2 <> 12
    """,
    "mixed bag": r"""
    \text{5 apples} <> \text{5 pears}   5!x <> 5x!   x\perp y! <> x\perp y   \cos 60 <> \frac12
    \sin 90^\circ <> \sin 90   thirty <> 13   DNE <> 0   0.\dot{3} <> 0.3
    0.\dot{1}\dot{2} <> 0.12   x\ne 1 <> (-\infty,1)   x\ne 1 <> (-\infty,2)\cup(2,\infty)
    1.2e3 <> 1.2e4   1.25e-3 <> 1.25e-2   2k\pi, k\in\mathbb{Z} <> k\pi, k\in\mathbb{Z}
    k\pi, k\in\mathbb{Z} <> k\pi, k\in\mathbb{N}   \begin{vmatrix}a&b\\c&d\end{vmatrix} <> ab-cd
    \int x + a dx <> \int x + b dx   \int x dx <> \int x dy   \int_0^1 x+1 dx <> \int_0^1 x-1 dx
    36 km/h <> 36 m/s   10 m/s <> 10 m/s^2   1 dollar <> 1 cent   1 year <> 1 month
    2 hours 30 minutes <> 2 hours 3 minutes   5 feet 3 inches <> 3 feet 5 inches
    1/2 hour <> 2 hours   7 days <> 7 hours   100 K <> 100 C   y=2x <> x=2y   a_1=a_2 <> a_1=a_3
    x=t, y=2t <> x=2t, y=t   AB=3 <> AC=3   P(A)=1/2 <> P(A)=1/3
    f(0)=1, f(1)=0 <> f(0)=0, f(1)=1   |x-7| <> 7-x   |x+50| <> x+50   \max(x,-4) <> x
    \sqrt{(x+9)^2} <> x+9   \frac{|x|}{x} <> 1   x^2 = 9 <> x = 3   (2,3] <> (2,3)   x>=2 <> x>2
    3<x<5 <> 3<x<=5   5,6 <> 56   5;6 <> 5.6   2,000,000 <> 2,000   0.05% <> 0.05%5
    log x <> ln x^2   2^n+1 <> 2^{n+1}   x_1x_2 <> x_1+x_2   e^2 <> e2x   2e <> 2   3i <> 3
    C_5^2 <> C_5^3   A_5^2 <> C_5^2   \frac{5}{2} <> 5,2   7/2 <> 7,2   4^3 <> 4*3
    (0.5,1) <> (5,1)   {1,2} <> (1,2)   1,2 or 3 <> 1,2   -3 or 3 <> 3   x=±3 <> x=3
    2 and 3 <> 2 or 4   0 <> 0.001   0.0 <> 0.04   9.99 <> 10   1 in <> 1 out of 2
    10:15 <> 10:51   noon <> midnight   June 5 <> June 6   June 5 <> July 5   12 June <> 12 July
    3/4/2020 <> 4/3/2020   A and B <> A and C   A, B, C <> A, B, D   I and II <> I and III
    (i) <> (ii)   II <> III   \text{Both } A \text{ and } B <> \text{Both } A \text{ and } C
    AB <> BA C   \angle ABC = 30 <> \angle ABC = 40   \triangle ABC <> \triangle ABD
    0.\overline{3} <> 0.\overline{33}4   \frac{0}{5} <> 5
    1-\frac{1}{2^n} <> 1-\frac{1}{2^{n-1}}   n^2+n <> n^2-n
    \lfloor\frac{n}{2}\rfloor <> \frac{n}{2}
    \lfloor\frac{n}{2}\rfloor <> \lceil\frac{n}{2}\rceil   \frac{n}{2} <> \frac{n+1}{2}
    2^{n} <> 2n   n! <> n^n   \phi(n) <> \phi(m)   \sigma(n) <> \tau(n)   \gcd(m,n) <> 1
    \gcd(m,n) <> n   \min(m,n) <> m   (m,n) <> (n,m)   m \bmod n <> n \bmod m   F_n <> F_{n+1}
    F_{n} <> F_{m}   a_n <> b_n   a_n=2n <> a_n=2n+1   x^{2}y <> xy^{2}   2x y^2 <> 2x^2 y
    """,
    "congruences": r"""
    x\equiv 3\bmod 7 <> x\equiv 3\bmod 5   3\pmod 7 <> 3\pmod 5   3\pmod 7 <> 4\pmod 7
    x\equiv 3\ (\text{mod } 7) <> x\equiv 3\ (\text{mod } 5)   x\equiv 3 (mod 7) <> 3
    """,
    "roots of several digits": r"""
    \sqrt{25} <> 5\sqrt2   √13 <> √3   \sqrt{12}5 <> \sqrt{125}   \sqrt13 <> \sqrt{31}
    """,
    "percentages and angles": r"""
    5\% <> 5^\circ   50\% <> 50 \text{ degrees}
    """,
    "inverse functions": r"""
    \arctan 2 <> 2^\circ   \arctan 1 <> 45   \arcsin\frac12 <> 60^\circ
    """,
    "plus or minus in tuples": r"""
    (\pm 1, 2) <> (1, 2)   (\pm 1, 0) <> (1, 0), (-1, 1)   (\pm 1, 2) <> (2, \pm 1)
    """,
    "bounds that hold together": r"""
    x>-1 \text{ and } x<2 <> -1\le x<2   x>-1 \text{ or } x<2 <> -1<x<2
    x>-1 \text{ and } y<2 <> -1<x<2
    """,
    "brackets that look outward": r"""
    ]0,1[ <> [0,1]   ]0,1] <> [0,1[   [0,1[ <> [0,1]
    """,
    "matrices as lists": r"""
    [[1,2],[3,4]] <> \begin{pmatrix}1&3\\2&4\end{pmatrix}
    ((1,2),(3,4)) <> \begin{pmatrix}1&2\\3&4\end{pmatrix}
    """,
    "derivatives": r"""
    \frac{dy}{dx}=2x <> \frac{y}{x}=2x   \frac{dy}{dx}=2x <> y=2x   \frac{dy}{dx} <> \frac{y}{x}
    \frac{dy}{dx}=2x <> \frac{dx}{dy}=2x   f'(x)=2x <> f(x)=2x   f'(x)=2x <> f''(x)=2x
    f'(x)=2x <> y=2x   f'(2)=3 <> f(2)=3   f'(2)=3 <> f'(3)=3   f^{-1}(x)=2x <> f'(x)=2x
    """,
    "dates": r"""
    2024-01-02 <> 2024-02-01   2024-01-02 <> 2021   06/04/2024 <> 03/02/2024
    """,
    "double factorials": r"""
    n!! <> (n!)!   3!! <> 720   (2n-1)!! <> (2n-1)!   (2n-1)!! <> (2n)!!   5!!! <> 5
    """,
    "sets of sets": r"""
    \{\{1\},\{2\}\} <> \{1,2\}   \{1,\{2\}\} <> \{1,2\}   \{\emptyset\} <> \emptyset
    \{\{1,2\}\} <> \{1,2\}
    """,
    "terms": r"""
    a_n=2^n <> a_{n+1}=2^n   S_n=n^2 <> S_{2n}=n^2   x=2t <> y=2t   x'=2t <> x=2t   x_1=y <> x_2=y
    """,
    "prefixes": r"""
    0x10 <> 0   0b101 <> 0   0x1F <> 0x2F   0b101 <> 0b110   0x10 <> 10
    """,
    "currencies": r"""
    €5 <> \$5   £5 <> £6   £5 <> 5 pounds   \text{no real solutions} <> 0   \text{A and C} <> A,D
    """,
}
EQUAL = r"""
    \frac{3}{4} <> 0.75   \frac{3}{4} <> 3/4   \tfrac{3}{4} <> 75%   x^2-1 <> (x-1)(x+1)
    f'(x)=2x <> 2x   f^{\prime}(x)=2x <> f'(t)=2t   f''(x)=2 <> 2   f'(2)=3 <> 3
    \frac{dy}{dx}=2x <> 2x   2x=\frac{dy}{dx} <> \frac{dy}{dx}=x+x
    √13 <> \sqrt{13}   \frac{√13}{2} <> \frac{\sqrt{13}}{2}
    3√13 <> \sqrt{117}   \sqrt25 <> 5   \sqrt[3]16 <> 2\sqrt[3]{2}
    \sqrt2 <> √2
    \arctan 1 <> 45^\circ   \arcsin\frac{1}{2} <> 30^\circ   \arctan 2 <> 63.43^\circ
    12 in <> 1 ft   12 in <> 12   12 in^2 <> 12
    (\pm 1, 2) <> (1,2),(-1,2)   (0,0), (\pm1,2) <> (1,2),(0,0),(-1,2)
    x>-1 \text{ and } x<2 <> -1<x<2   x<2 \text{ and } x\ge -1 <> [-1,2)
    ]0,1[ <> (0,1)   [0,1[ <> 0\le x<1   ]-\infty,1[\cup]2,+\infty[ <> (-\infty,1)\cup(2,\infty)
    \left]0;1\right] <> (0,1]
    [0,1]\cup[1,2] <> [0,2]   [0,3)\cup(1,2] <> [0,3)   (0,1)\cup\{1\}\cup(1,\infty) <> (0,\infty)
    (-\infty,1)\cup[1,\infty) <> (-\infty,\infty)   \{0\}\cup(0,\frac13]\cup[\frac13,1) <> [0,1)
    [0,\sqrt2]\cup[\frac{2}{\sqrt2},2]\cup(3,4) <> [0,2]\cup(3,4)   [0,1]\cup\{1\} <> [0,1]
    x<1 or x\ge1 <> (-\infty,\infty)   (2,3)\cup[0,1]\cup[1,2) <> [0,2)\cup(2,3)
    [[1,2],[3,4]] <> \begin{pmatrix}1&2\\3&4\end{pmatrix}
    \sqrt{12} <> 2\sqrt{3}   \frac{1}{\sqrt2} <> \frac{\sqrt2}{2}   2,3 <> {2,3}
    2,3 <> x=2\text{ or }x=3   x=2 or x=3 <> 2,3   x \in \{2,3\} <> 2,3   (2,3) <> x=2,y=3
    (2,3) <> \left(2,\,3\right)   (2,3) <> 2,3   [0,\infty) <> x\ge0
    x<2 or x>5 <> (-\infty,2)\cup(5,\infty)   x<2 \text{ or } x>5 <> (-\infty,2)\cup(5,+\infty)
    -1<x<1 <> (-1,1)   1>x>-1 <> (-1,1)   |x|<1 <> |x|<1   3x+2 <> 2+3x   y=3x+2 <> 3x+2
    f(x)=3x+2 <> 3x+2   f(x)=3x+2 <> y=3x+2   \$5.00 <> 5   5 dollars <> $5   5% <> 5\%
    5% <> 0.05   30^\circ <> 30   30^\circ <> \frac{\pi}{6}   10! <> 3628800
    \binom{5}{2} <> 10   C_5^2 <> C_5^2   2^{10} <> 1024   1.2\times10^3 <> 1200   1.2e3 <> 1200
    1200 <> 1,200   \infty <> +\infty   no solution <> \emptyset   DNE <> does not exist
    None <> no solution   yes <> Yes.   True <> true   (A) <> A   A <> A.   A <> \text{A}
    (B) 5 <> B   B <> (B) 5   \frac{\pi}{2}+k\pi <> \frac{\pi}{2}+n\pi
    x=\frac{\pi}{2}+k\pi, k\in\mathbb{Z} <> \frac{\pi}{2}+k\pi
    \begin{pmatrix}1&2\\3&4\end{pmatrix} <> \begin{bmatrix}1&2\\3&4\end{bmatrix}
    \begin{pmatrix}1\\2\end{pmatrix} <> (1,2)
    \begin{pmatrix}1\\2\end{pmatrix} <> \langle 1,2\rangle   \log_2 8 <> 3   \ln e^2 <> 2
    e^{\ln 3} <> 3   \sin\frac{\pi}{6} <> 0.5   \arctan 1 <> \frac{\pi}{4}   i^2 <> -1
    (1+i)^2 <> 2i   3-2i <> -2i+3   0.\overline{3} <> \frac13   0.333... <> \frac13
    0.\dot{3} <> \frac13   0.3\overline{3} <> \frac13   1010_2 <> 1010_{2}   1010_2 <> 10_{10}
    1010_{2} <> 1010_{\text{two}}   2:3 <> \frac23   2:3 <> 4:6   2\frac12 <> 2.5   2 1/2 <> 2.5
    -2 1/2 <> -2.5   5\text{ cm} <> 5   5 cm <> 0.05 m   3 hours <> 180 minutes   5 <> x=5
    12 square units <> 12   12\text{ square inches} <> 12\text{ in}^2   \frac{x}{2} <> 0.5x
    \frac{x}{2} <> x/2   x^{1/2} <> \sqrt{x}   a^{-1} <> \frac1a   x+\frac1x <> \frac{x^2+1}{x}
    \tan x <> \frac{\sin x}{\cos x}   n(n+1)/2 <> \frac{n^2+n}{2}
    \sum_{k=1}^n k <> \sum_{k=1}^{n} k   ab <> ba   x=1,2 <> 1,2   x=1,2 <> x=1,x=2
    x_1=1,x_2=2 <> 1,2   x_{1,2}=1\pm\sqrt2 <> 1\pm\sqrt2   a=1,b=2 <> (1,2)
    (a,b)=(1,2) <> a=1,b=2   m=2, n=5 <> (2,5)   17 and 19 <> 17,19
    {(1,2),(3,4)} <> (1,2),(3,4)   \{(x,y)=(1,2)\} <> (1,2)   y=2x+1 <> 2x-y+1=0
    2x+4y=6 <> x+2y=3   (x-1)^2+y^2=4 <> x^2-2x+y^2=3
    x^2/4+y^2=1 <> \frac{x^2}{4}+\frac{y^2}{1}=1   -x+3=y <> y=3-x   x\neq2 <> x\ne 2
    \mathbb{R} <> (-\infty,\infty)   all real numbers <> \mathbb{R}
    \mathbb{R}\setminus\{1\} <> (-\infty,1)\cup(1,\infty)   x\ne1 <> (-\infty,1)\cup(1,\infty)
    x\le 3 <> (-\infty,3]   6:30 <> 6:30   6:30 PM <> 18:30   Tuesday <> tuesday   twelve <> 12
    45 mph <> 45 miles per hour   45 mph <> 45   twenty <> 20   10th <> 10
    64\pi <> 64 \pi\text{ cm}^3   50 000 <> 50000   1.50 <> 1.5   +5 <> 5   5. <> 5   .5 <> 0.5
    -\frac{1}{2} <> \frac{-1}{2}   \frac{1}{-2} <> -\frac12   \frac{a}{-b} <> -\frac{a}{b}
    x^3y <> yx^3   \sqrt[3]{8} <> 2   8^{1/3} <> 2   \frac{\sqrt[3]{4}}{2} <> 2^{-1/3}
    120^{\circ} <> 120 degrees   \text{6 sides} <> 6   6\text{ sides} <> 6 sides
    \frac{7}{2} \text{ hours} <> 3.5   3\frac12 \text{ hours} <> 3.5 hours   2/3 cup <> \frac23
    p=0.25 <> 25\%   (-\infty,0)\cup(0,\infty) <> x<0 or x>0   \{x: x>2\} <> (2,\infty)
    \{x \in \mathbb{R} \mid x > 2\} <> x>2   z=1+i,z=1-i <> 1\pm i   \max(2,3) <> 3
    \lfloor 3.7\rfloor <> 3   7 \bmod 3 <> 1   \gcd(12,18) <> 6   3.0\times 10^8 <> 300000000
    e <> \mathrm{e}   \exp(2) <> e^2   \cos 60^\circ <> \frac12   2\sin x\cos x <> \sin 2x
    |x-3| <> |3-x|   \sqrt{x^2} <> |x|   1 : 2 : 3 <> 2:4:6   \frac{1}{3}x^3 <> x^3/3
    2^{-1} <> 0.5   \begin{cases}x=1\\y=2\end{cases} <> (1,2)
    \begin{cases}x=1\\y=2\end{cases} <> x=1,y=2   5 cm <> 5   100 cm <> 1 m
    60 minutes <> 1 hour   5 km/h <> 5 kilometers per hour   10 square feet <> 10\text{ ft}^2
    36 km/h <> 10 m/s   3 apples <> 3   2 dozen <> 2   5 dollars <> \$5   50 cents <> \$0.50
    5\text{ cm}^2 <> 5\text{ square centimeters}   1 L <> 1000 mL   5 mph <> 5 miles per hour
    3 \text{ sq. units} <> 3   20\text{ N} <> 20   90 degrees <> \frac{\pi}{2}
    90 degrees <> 90^\circ   10 students <> 10   10 cubic units <> 10   1 000 <> 1000
    1 000 000 <> 1000000   1 1/2 <> 3/2   2 \pi <> 2\pi   x = 2, y = 3 <> (2,3)
    y=3, x=2 <> x=2,y=3   x=3 <> 3=x   \begin{vmatrix}1&2\\3&4\end{vmatrix} <> -2
    P(A)=1/2 <> 1/2   f(2)=3 <> 3   \text{Area}=5 <> 5   x_1=2,x_2=3 <> 3,2   x>3 <> (3,\infty)
    A\cup B <> A \cup B   5 p.m. <> 5:00 p.m.   e^{2x} <> (e^x)^2   \frac{x^2-1}{x-1} <> x+1
    \sqrt{x-20}\sqrt{x-20} <> x-20   5 feet 3 inches <> 63 inches
    2 hours 30 minutes <> 150 minutes   2 hours 30 minutes <> 2.5 hours   5'3" <> 5'3"
    June 5 <> June 5   a_n=2n <> 2n   x=t, y=2t <> y=2t, x=t   2 h 30 min <> 2 hours 30 minutes
    3 + 4i <> 3+4i   \frac{1}{2} \text{ hour} <> 30 minutes   0.5 hours <> 1/2 hour
    \text{ 12 } <> 12
    €5 <> 5   £1,000 <> 1000   \text{1 and 3} <> 1,3   \text{(A), (C)} <> A,C
    \text{no real solutions} <> \emptyset
    \begin{aligned} x &= 3 \\ y &= 2 \end{aligned} <> x=3,y=2
    0x1F <> 0x1f   0x1F <> 1F_{16}   0b101 <> 101_2   0x1F <> 31_{10}
    a_n=2^n <> 2^n   a_n=2^n <> a(n)=2^n   a_n=2^n <> b_n=2^n   y=3x <> f(x)=3x
    \{\{1\},\{2\}\} <> \{\{2\},\{1\}\}   \{5\} <> 5   \{\{1\},\{2,3\}\} <> \{1\},\{3,2\}
    \left\{ {1,2} \right\} <> \{2,1\}
    5!! <> 15   (2n-1)!! <> \frac{(2n)!}{2^n n!}   (3!)! <> 720   \frac{2021!!}{2019!!} <> 2021
    2024-01-02 <> 2024-01-02   06/04/2024 <> 6/4/2024
    x\equiv 3\pmod 7 <> x\equiv 3\bmod 7   x\equiv 3\pmod 7 <> x\equiv 10\ (\text{mod } 7)
    x\equiv 3\pmod{7} <> x\equiv 3 (\bmod 7)   3\pmod 7 <> 3 (mod 7)   17\pmod 7 <> 3
"""


def pairs_of(table):
    items = [
        item for line in table.split("\n") for item in re.split(r" {3,}", line) if item.strip()
    ]
    pairs = [tuple(item.strip().split(" <> ")) for item in items]
    assert all(len(pair) == 2 for pair in pairs)
    return pairs


@pytest.fixture(scope="module")
def verifier():
    verifier = AnswerVerifier()
    yield verifier
    verifier.close()


def answers(verifier, pairs):
    there = [verifier.are_equal(a, b) for a, b in pairs]
    assert there == [verifier.are_equal(b, a) for a, b in pairs]
    return there


@pytest.mark.parametrize("table", UNEQUAL.values(), ids=UNEQUAL)
def test_no_unequal_pair_of_a_class_passes(verifier, table):
    pairs = pairs_of(table)
    found = zip(pairs, answers(verifier, pairs), strict=True)
    assert [pair for pair, is_equal in found if is_equal] == []


def test_equal_pairs_pass(verifier):
    pairs = pairs_of(EQUAL)
    found = zip(pairs, answers(verifier, pairs), strict=True)
    assert [pair for pair, is_equal in found if not is_equal] == []


@pytest.mark.parametrize(
    ("a", "b"),
    [("5 boys", "5 girls"), ("10 cm", "10 apples"), ("Maximum: 3", "Minimum: 3"),
     ("x_1=2,x_2=3", "x_1=3,x_2=2"), (r"x^2 \text{ for } x>0", r"x^2 \text{ for } x<0")],
)  # fmt: skip
def test_what_only_the_problem_could_tell_is_undecided(verifier, a, b):
    judgement = verifier.judge(a, rf"\boxed{{{b}}}")
    assert (judgement.outcome, judgement.rule) == (Outcome.UNDECIDED, "ambiguous")


_PIECES = (
    r"\frac { } ( ) [ ] ^ _ \pm \cup \sqrt , ; : = < \le 9 0 - ! % \text{ x e \infty & | \{ \} "
    r"\sum f( \int d \dot 3 \deg \$ \begin{vmatrix} \end{vmatrix} \\ and or \ne \in \mathbb{R} "
    r"cm km/h n k \log_ \sin \max \lfloor \rfloor \overline 1.5e3 . ' \gcd \bmod + * / "
    r"12 345 Area: where \forall a.m. 10:30 _2 \binom yes ... \cdots \left i \pi"
)
PIECES = [*_PIECES.split(), " ", "\n"]


def test_random_strings_neither_raise_nor_hang_nor_depend_on_the_direction():
    draw = random.Random(7)

    def text():
        return "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 14)))

    for _ in range(2000):
        a = text()
        place = draw.randint(0, len(a))
        b = draw.choice([text(), a[:place] + draw.choice(PIECES) + a[place + draw.randint(0, 2) :]])
        start = time.perf_counter()
        there, back = decide(a, b), decide(b, a)
        assert time.perf_counter() - start < 1
        assert there.outcome is back.outcome
        assert "error" not in {there.rule, back.rule}
        assert decide(a, a).outcome is not Outcome.FAIL
