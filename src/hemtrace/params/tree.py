"""All of `params.yaml`: read, checked, written."""

import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hemtrace.errors import HemtraceError
from hemtrace.faults import tell_faults
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
        lines = [f"{source}: {fault}" for fault in tell_faults(error, Params)]
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
