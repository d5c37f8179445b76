"""A trained model made ready to predict: fast on a CPU, with torch's own answers."""

from hemtrace.engine.batcher import Batcher
from hemtrace.engine.contract import CHUNK, Answers, Engine, join_answers
from hemtrace.engine.start import FEWEST_CELLS, RUNTIMES, open_engine

__all__ = [
    "CHUNK",
    "FEWEST_CELLS",
    "RUNTIMES",
    "Answers",
    "Batcher",
    "Engine",
    "join_answers",
    "open_engine",
]
