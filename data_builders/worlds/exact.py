"""Exact numbers of school geometry: sums of (fraction · √n · πᵖ), such as 12√3, 9π/2 or 7 + √74.

    Exact.of(6) * root(3) / 2  ──▶  3√3          str() writes them as books do, float() rounds them

They are closed under +, − and ·, under division by a single term and under the square root of a rational number, which
is all that lengths and areas of the figures need.
"""

from __future__ import annotations

import functools
import math
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

Key = tuple[int, int]  # the number under the root, without square factors, and the power of π
_ONE: Key = (1, 0)


class Exact:
    """Immutable; `terms` maps (number under the root, power of π) to a fraction that is not 0."""

    __slots__ = ("_text", "terms")

    def __init__(self, terms: dict[Key, Fraction]) -> None:
        self.terms = terms
        self._text = ""

    @staticmethod
    def of(value: int | Fraction | Exact) -> Exact:
        if isinstance(value, Exact):
            return value
        return _whole(value) if type(value) is int else Exact({_ONE: Fraction(value)} if value else {})

    def __add__(self, other: int | Fraction | Exact) -> Exact:
        terms = dict(self.terms)
        for key, value in Exact.of(other).terms.items():
            known = terms.get(key)
            total = value if known is None else known + value
            if total:
                terms[key] = total
            else:
                del terms[key]
        return Exact(terms)

    def __neg__(self) -> Exact:
        return Exact({key: -value for key, value in self.terms.items()})

    def __sub__(self, other: int | Fraction | Exact) -> Exact:
        return self + -Exact.of(other)

    def __rsub__(self, other: int | Fraction) -> Exact:
        return Exact.of(other) - self

    def __mul__(self, other: int | Fraction | Exact) -> Exact:
        if not isinstance(other, Exact):
            return Exact({key: value * other for key, value in self.terms.items()} if other else {})
        if len(self.terms) == len(other.terms) == 1:
            ((root, power), value), ((other_root, other_power), factor) = *self.terms.items(), *other.terms.items()
            common = math.gcd(root, other_root)
            key = (root // common) * (other_root // common), power + other_power
            return Exact({key: value * factor * common if common > 1 else value * factor})
        total = Exact({})
        for (root, power), value in self.terms.items():
            for (other_root, other_power), factor in other.terms.items():
                common = math.gcd(root, other_root)
                key = (root // common) * (other_root // common), power + other_power
                total = total + Exact({key: value * factor * common})
        return total

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: int | Fraction | Exact) -> Exact:
        """Raises `ValueError` where the divisor is a sum or 0."""
        if not isinstance(other, Exact):
            return self * (Fraction(1) / other)
        if len(other.terms) != 1:
            raise ValueError(f"{other} is not a single term")
        (((root, power), value),) = other.terms.items()
        return self * Exact({(root, -power): 1 / (value * root)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exact | int | Fraction) and self.terms == Exact.of(other).terms

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.terms.items())))

    def __float__(self) -> float:
        terms = self.terms.items()
        return sum((float(value) * math.sqrt(root) * math.pi**power for (root, power), value in terms), 0.0)

    @property
    def rational(self) -> bool:
        return not self.terms or (len(self.terms) == 1 and _ONE in self.terms)

    @property
    def integer(self) -> bool:
        return self.rational and self.fraction.denominator == 1

    @property
    def fraction(self) -> Fraction:
        """Raises `ValueError` where the number is not rational."""
        if not self.rational:
            raise ValueError(f"{self} is not rational")
        return self.terms.get(_ONE, Fraction(0))

    def __str__(self) -> str:
        if not self._text:
            self._text = self._written()
        return self._text

    def _written(self) -> str:
        if not self.terms:
            return "0"
        # Rational part first unless it is negative behind a root: 7 + √74, √74 − 7.
        ordered = sorted(self.terms.items(), key=lambda term: (term[1].numerator < 0, term[0][1], term[0][0]))
        text = ""
        for key, value in ordered:
            positive = value.numerator > 0
            sign = ("" if positive else "−") if not text else " + " if positive else " − "
            text += sign + _term(key, value if positive else -value)
        return text


def _term(key: Key, value: Fraction) -> str:
    root, power = key
    if key == _ONE:
        return rational(value)
    if power >= 0 and value.denominator == 1:  # most have no bottom
        top = (f"√{root}" if root > 1 else "") + ("π" if power else "") + (superscript(power) if power > 1 else "")
        return top if value.numerator == 1 else f"{value.numerator}{top}"
    symbol = (f"√{root}" if root > 1 else "") + ("π" if power > 0 else "") + (f"{superscript(power)}" * (power > 1))
    top = symbol if value.numerator == 1 and symbol else f"{value.numerator}{symbol}"
    bottom = [str(value.denominator)] if value.denominator > 1 else []
    bottom += [f"π{superscript(-power) * (power < -1)}"] if power < 0 else []
    return "/".join([top, *(["".join(bottom)] if len(bottom) < 2 else [f"({''.join(bottom)})"])]) if bottom else top


def rational(value: Fraction) -> str:
    """A whole number, a decimal of up to two digits, or else a fraction; − in front of negative ones."""
    if value.denominator == 1:
        return str(value.numerator).replace("-", "−")
    sign, value = "−" * (value.numerator < 0), abs(value)
    if 100 % value.denominator == 0:
        return f"{sign}{float(value):.2f}".rstrip("0")
    return f"{sign}{value.numerator}/{value.denominator}"


@functools.lru_cache(maxsize=4096)
def _whole(value: int) -> Exact:
    return Exact({_ONE: Fraction(value)} if value else {})


def superscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


@functools.lru_cache(maxsize=4096)
def root(value: Fraction | int) -> Exact:
    """The square root of a rational number from 0 on. Raises `ValueError` for a negative one."""
    value = Fraction(value)
    if value < 0:
        raise ValueError(f"{value} has no square root")
    inside, outside = value.numerator * value.denominator, 1
    for factor in range(2, math.isqrt(inside) + 1):
        while inside and inside % (factor * factor) == 0:
            inside, outside = inside // (factor * factor), outside * factor
        if factor * factor > inside:
            break
    return Exact({(inside, 0): Fraction(outside, value.denominator)} if value else {})


PI = Exact({(1, 1): Fraction(1)})


def rounded(value: Exact | float) -> str:
    """To two decimals, half up, without zeros at the end; what is a fraction is rounded as one."""
    if isinstance(value, Exact) and value.rational:
        hundredths = value.fraction * 100
        number = Decimal(math.floor(abs(hundredths) + Fraction(1, 2))).scaleb(-2) * (1 if hundredths >= 0 else -1)
    else:
        number = Decimal(float(value)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return text.replace("-", "−") if float(text) else "0"
