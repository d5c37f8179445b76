"""How unlike the training data are some pictures? Measured, and judged by validation patients."""

from hemtrace.familiar.score import Familiar
from hemtrace.familiar.stored import find_familiar, read

__all__ = ["Familiar", "find_familiar", "read"]
