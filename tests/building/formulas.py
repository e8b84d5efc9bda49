"""A calculator for formulas as they stand in questions and rationales, for tests; it shares no code with the worlds."""

from __future__ import annotations

import math
import re

_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|sin|cos|log₂|[√π()|²^×/+−])")


class Reader:
    """A calculator for what stands in questions and answers: `(5√3)² / 2 − |−4| × sin 30°`."""

    def __init__(self, text: str) -> None:
        turned = re.sub(
            r"(sin|cos|tan) (\d+)°", lambda m: f"({getattr(math, m[1])(math.radians(int(m[2]))):.15f})", text
        ).replace("-", "−")
        turned = turned.replace("°", "")
        self.tokens: list[str] = []
        at = 0
        while at < len(turned.rstrip()):
            match = _TOKEN.match(turned, at)
            if match is None:
                raise ValueError(f"{text!r} is no formula, at {turned[at:]!r}")
            self.tokens.append(match[1])
            at = match.end()
        self.at = 0
        self.bars = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def whole(self) -> float:
        value = self.sum()
        if self.peek():
            raise ValueError(f"{self.tokens} has more behind {self.at}")
        return value

    def sum(self) -> float:
        value = self.product()
        while self.peek() in ("+", "−"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> float:
        sign = 1
        while self.peek() == "−":
            self.take()
            sign = -sign
        value = sign * self.power()
        while True:
            following = self.peek()
            if following in ("×", "/"):
                self.take()
                value = value * self.power() if following == "×" else value / self.power()
            elif following in ("√", "π", "("):  # 5√3, 2π
                value *= self.power()
            else:
                return value

    def power(self) -> float:
        base = self.atom()
        while self.peek() in ("²", "^"):
            base = base ** (2 if self.take() == "²" else self.atom())
        return base

    def atom(self) -> float:
        token = self.take()
        if token == "√":
            return math.sqrt(self.atom())
        if token == "π":
            return math.pi
        if token in ("sin", "cos", "log₂"):
            return {"sin": math.sin, "cos": math.cos, "log₂": math.log2}[token](self.atom())
        if token in ("(", "|"):
            value = self.sum()
            assert self.take() == {"(": ")", "|": "|"}[token]
            return value if token == "(" else abs(value)
        return float(token)


def value(text: str) -> float:
    return Reader(text).whole()
