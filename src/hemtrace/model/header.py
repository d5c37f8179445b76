"""What a model's file says of itself, read without its weights and without torch."""

from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from hemtrace.errors import HemtraceError
from hemtrace.model.spec import ModelSpec

METADATA_KEY = "hemtrace"


def is_model(path: Path) -> bool:
    """Tell whether a file is a model that `save_model` wrote, of whatever version."""
    try:
        with safe_open(path, framework="numpy") as stored:
            return METADATA_KEY in (stored.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_spec(path: Path) -> ModelSpec:
    """Read what a model is, without its weights.

    Raises
    ------
    HemtraceError
        If the file is missing, or is no model of hemtrace.
    """
    if not path.is_file():
        raise HemtraceError(f"The model {path} was not found; train one first.")
    try:
        with safe_open(path, framework="numpy") as stored:
            text = (stored.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise HemtraceError(f"{path} is damaged or no safetensors file: {error}.") from None
    if text is None:
        raise HemtraceError(
            f"{path} holds weights, but is no model of hemtrace: it says nothing of "
            "windows, size and labels. Start a training from it with train.weights: file."
        )
    try:
        return ModelSpec.model_validate_json(text)
    except ValidationError as error:
        raise HemtraceError(
            f"{path} was written by another version of hemtrace: {error.error_count()} fields of "
            f"its description do not fit, {error.errors()[0]['loc']} for one."
        ) from None
