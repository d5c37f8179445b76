"""All of `params.yaml`: read, checked, written."""

import json
import textwrap
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hemtrace.errors import HemtraceError
from hemtrace.params.compare import CompareParams
from hemtrace.params.ingest import IngestParams
from hemtrace.params.phantom import PhantomParams
from hemtrace.params.results import EvaluateParams, ExplainParams, ReportParams
from hemtrace.params.section import Section
from hemtrace.params.split import SplitParams
from hemtrace.params.train import TrainParams


class Params(Section):
    """All of `params.yaml`."""

    seed: int = Field(2019, ge=0, description="fixes phantom, split and training")
    phantom: PhantomParams = PhantomParams()
    ingest: IngestParams = IngestParams()
    split: SplitParams = SplitParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    compare: CompareParams = CompareParams()
    explain: ExplainParams = ExplainParams()
    report: ReportParams = ReportParams()

    @model_validator(mode="after")
    def _windows_exist(self) -> "Params":
        known = [window.name for window in self.ingest.windows]
        for field, name in self.train.windows_named():
            if name not in known:
                raise ValueError(
                    f"train.{field} names the window {name!r}; ingest.windows has "
                    f"{', '.join(known)}"
                )
        return self

    @property
    def is_phantom(self) -> bool:
        """Whether the data are synthetic."""
        return self.ingest.raw is None


def parse_params(tree: dict[str, Any] | None, source: str = "params.yaml") -> Params:
    """Check a tree of parameters.

    Raises
    ------
    HemtraceError
        A sentence a problem, each naming the field, what was given and what is allowed.
    """
    try:
        return Params.model_validate(tree or {})
    except ValidationError as error:
        lines = [f"{source}: {_sentence(problem)}" for problem in error.errors()]
        raise HemtraceError("\n".join(lines)) from None


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a params file.

    Raises
    ------
    HemtraceError
        If the file is missing, is not YAML, or a field of it is unknown, ill-typed or out of range.
    """
    return parse_params(read_tree(path), str(path))


def read_tree(path: Path) -> dict[str, Any] | None:
    """Read a params file without looking at its fields.

    Raises
    ------
    HemtraceError
        If the file is missing, is not YAML, or holds no sections.
    """
    if not path.is_file():
        raise HemtraceError(
            f"{path} was not found; run hemtrace from the project's root, where params.yaml lies."
        )
    try:
        tree = YAML(typ="safe").load(path.read_text())
    except YAMLError as error:
        raise HemtraceError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict | None):
        raise HemtraceError(f"{path} must hold sections such as `ingest:`, not a plain value.")
    return tree


def _sentence(problem: Any) -> str:
    if problem["type"] == "value_error":  # a rule of ours, over several fields
        return str(problem["ctx"]["error"]) + "."
    field = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"`{field}` is not a parameter; {_known_names(problem['loc'])}."
    given = problem["input"]
    shown = "" if isinstance(given, dict | BaseModel) else f" (given: {given!r})"
    return f"`{field}`: {problem['msg']}{shown}."


def _known_names(location: tuple[Any, ...]) -> str:
    model: Any = Params
    for part in location[:-1]:
        if isinstance(part, str):
            model = model.model_fields[part].annotation
        if not hasattr(model, "model_fields"):  # a list of sections
            model = typing.get_args(model)[0]
    return "known here are " + ", ".join(model.model_fields)


def render_params(params: Params) -> str:
    """Write parameters as the text of a `params.yaml`, each field under its description."""
    lines = [
        "# The parameters of the whole pipeline, a section a stage, as src/hemtrace/params.py",
        "# describes them. `hemtrace use NAME` merges one of presets/ into this file.",
        f"# {Params.model_fields['seed'].description}",
        f"seed: {params.seed}",
    ]
    for name in Params.model_fields:
        section = getattr(params, name)
        if not isinstance(section, Section):
            continue
        summary = (type(section).__doc__ or "").strip().splitlines()[0]
        lines += ["", f"# {summary}", f"{name}:"]
        for field, info in type(section).model_fields.items():
            lines += [f"  # {line}" for line in textwrap.wrap(info.description or "", 94)]
            value = section.model_dump(mode="json")[field]
            if field == "windows":
                lines += [f"  {field}:", *(f"    - {json.dumps(item)}" for item in value)]
            else:
                lines.append(f"  {field}: {json.dumps(value)}")
    return "\n".join(lines) + "\n"
