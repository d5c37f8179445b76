"""Presets: small overlays that are merged into `params.yaml` without losing its comments."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hemtrace.errors import HemtraceError
from hemtrace.params import parse_params, read_tree


def use_preset(name: str, settings: list[str], root: Path = Path()) -> list[str]:
    """Merge a preset, then single settings, into `params.yaml`.

    Parameters
    ----------
    name
        `presets/<name>.yaml`.
    settings
        `section.field=value` each, the value in YAML; they win over the preset.
    root
        The project's folder.

    Returns
    -------
    A line for each parameter that changed. The file is written only if the result is valid.

    Raises
    ------
    HemtraceError
        If there is no such preset, or the merged parameters are not valid.
    """
    overlays = [read_preset(name, root), *map(_parse_setting, settings)]
    return _merge_into_file(overlays, root, f"params.yaml with preset {name}")


def set_parameters(settings: list[str], root: Path = Path()) -> list[str]:
    """Merge single settings into `params.yaml`; the rest as for `use_preset`."""
    return _merge_into_file(list(map(_parse_setting, settings)), root, "params.yaml")


def _merge_into_file(overlays: list[dict[str, Any]], root: Path, source: str) -> list[str]:
    path = root / "params.yaml"
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    read_tree(path)  # a file that is no YAML is told of before it is changed
    tree = yaml.load(path.read_text())
    changes: list[str] = []
    for overlay in overlays:
        changes += _merge(tree, overlay, "")
    parse_params(_plain(tree), source)
    with path.open("w") as stream:
        yaml.dump(tree, stream)
    return changes


def read_preset(name: str, root: Path = Path()) -> dict[str, Any]:
    """Read a preset, as plain values, without checking them.

    Raises
    ------
    HemtraceError
        If there is none of that name.
    """
    path = root / "presets" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in (root / "presets").glob("*.yaml")))
        raise HemtraceError(f"There is no preset {name!r}; there are: {known or 'none here'}.")
    return read_tree(path) or {}


def _merge(tree: Any, overlay: Any, prefix: str) -> list[str]:
    changes = []
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            changes += _merge(tree[key], value, f"{prefix}{key}.")
        elif tree.get(key) != value or key not in tree:
            changes.append(f"{prefix}{key}: {_plain(tree.get(key))} -> {_plain(value)}")
            tree[key] = value
    return changes


def _parse_setting(setting: str) -> dict[str, Any]:
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise HemtraceError(f"{setting!r} is no setting; write section.field=value.")
    tree: Any = YAML(typ="safe").load(text)
    for part in reversed(name.split(".")):
        tree = {part: tree}
    return dict(tree)


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    return tree
