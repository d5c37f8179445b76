"""What is wrong in a file of settings: a sentence a fault, with what is known in its place."""

import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

Location = Sequence[int | str]


def tell_faults(
    error: ValidationError, model: type[BaseModel], tree: Any = None, repeat: bool = True
) -> list[str]:
    """Tell each fault that pydantic found: where, what, what was given, or what could be.

    Parameters
    ----------
    error
        Of the check.
    model
        What the file was checked by.
    tree
        The file as ruamel's round-trip loader gives it: its lines are named.
    repeat
        Whether a sentence may repeat what was given; not so where that could be a secret.
    """
    return [
        _find_line(tree, fault["loc"]) + _tell(fault, model, repeat) for fault in error.errors()
    ]


def _tell(fault: Any, model: type[BaseModel], repeat: bool) -> str:
    field = ".".join(map(str, fault["loc"]))
    place = f"`{field}`: " if field else ""
    if fault["type"] == "value_error":  # a rule of ours, over several fields
        return f"{place}{fault['ctx']['error']}."
    if fault["type"] == "extra_forbidden":
        return f"`{field}` is not a parameter; known here are {_known_names(fault['loc'], model)}."
    if fault["type"] == "missing":
        return f"`{field}` is missing."
    if fault["type"] == "union_tag_not_found":
        return f"{place}{fault['ctx']['discriminator'].replace(chr(39), '`')} is missing."
    if fault["type"] == "union_tag_invalid":
        kind, tag, known = (
            fault["ctx"][name] for name in ("discriminator", "tag", "expected_tags")
        )
        shown = f" (given: {tag!r})" if repeat else ""
        return f"{place}{kind.replace(chr(39), '`')} must be one of {known}{shown}."
    given = fault["input"]
    shown = f" (given: {given!r})" if repeat and not isinstance(given, dict | BaseModel) else ""
    return f"`{field or 'the file'}`: {fault['msg']}{shown}."


def _known_names(location: Location, model: type[BaseModel]) -> str:
    """List the names that could stand where an unknown one does."""
    models = [model]
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        fields = [one.model_fields[part] for one in models if part in one.model_fields]
        if fields:
            models = [one for field in fields for one in _models_in(field.annotation)]
        else:  # the kind by which pydantic told models apart
            models = [one for one in models if _is_of_kind(one, part)]
    return ", ".join(dict.fromkeys(name for one in models for name in one.model_fields))


def _models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    """Find the models that an annotation names, such as `tuple[Annotated[A | B, ...], ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _is_of_kind(model: type[BaseModel], kind: str) -> bool:
    return any(kind in typing.get_args(one.annotation) for one in model.model_fields.values())


def _find_line(tree: Any, location: Location) -> str:
    """Name the line of the innermost part of a location that stands in the file."""
    line = None
    for part in location:
        if not isinstance(tree, CommentedMap | CommentedSeq):
            break
        try:
            line = tree.lc.key(part)[0] if isinstance(tree, CommentedMap) else tree.lc.item(part)[0]
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            continue  # a missing name, or the kind by which pydantic told models apart
    return "" if line is None else f"line {line + 1}: "
