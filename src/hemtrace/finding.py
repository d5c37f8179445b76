"""What a check of `hemtrace doctor` found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """A check, its verdict, what was found, and what to do."""

    check: str
    verdict: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """Nothing needs to be done."""
    return Finding(check, "ok", found)


def warn(check: str, found: str, advice: str) -> Finding:
    """A run will end, but perhaps not as wished."""
    return Finding(check, "warn", found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """A run will not end."""
    return Finding(check, "fail", found, advice)
