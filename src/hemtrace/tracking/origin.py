"""What a run was made from, as far as it takes to make it again."""

import io
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hemtrace.provenance import file_digest

# Stands before the last part of what was an absolute path: where something lies on a machine is
# no property of a run, and may name a user.
ELSEWHERE = "<elsewhere>/"
# Parameters are kept as a file of their own; the others are products.
_NO_CODE = ("params.yaml", "dvc.lock", "reports")
# Where a file that git does not know yet can be code.
_CODE = ("src", "workflow", "presets")
_LARGEST_CODE_BYTES = 5_000_000
_ABSOLUTE = re.compile(r"(?<=[\s\"'])/(?:[^\s\"',\]}]*/)*(?=[^\s\"',\]}/])")


def describe_origin(root: Path) -> dict[str, str]:
    """Tag a run with the digests of what it was made from; "none" where a file is missing."""
    return {
        name: file_digest(root / path) if (root / path).is_file() else "none"
        for name, path in (("dvc_lock", "dvc.lock"), ("requirements_sha256", "requirements.lock"))
    }


def collect_origin(root: Path) -> Iterator[tuple[str, bytes]]:
    """Give name and content of each file that tells what a run was made from.

    `params.yaml` and `dvc.lock` without absolute paths, `environment.json`, and `code.patch` where
    the code differs from its commit.
    """
    for name in ("params.yaml", "dvc.lock"):
        if (root / name).is_file():
            yield name, hide_paths((root / name).read_text()).encode()
    yield "environment.json", json.dumps(describe_environment(), indent=1).encode()
    if patch := read_patch(root):
        yield "code.patch", patch


def describe_environment() -> dict[str, Any]:
    """Tell Python, packages, processor, threads and GPUs, without a name of the machine."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _name_processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": list_packages(),
    }


def list_packages() -> dict[str, str]:
    """List the packages of this environment with their versions."""
    return {one.name: one.version for one in sorted(distributions(), key=lambda one: one.name)}


def _name_processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def read_patch(root: Path) -> bytes:
    """Tell how the code differs from its commit, new files included, as `git apply` takes it.

    Empty where it does not differ, or where there is no git.
    """
    try:
        patch = _diff(root, "HEAD", "--", ".", *(f":(exclude){name}" for name in _NO_CODE))
        listed = ("ls-files", "-z", "--others", "--exclude-standard", "--", *_CODE)
        for name in _git(root, *listed).decode().split("\0"):
            if name and (root / name).stat().st_size <= _LARGEST_CODE_BYTES:
                patch += _diff(root, "--no-index", "--", os.devnull, name)
    except (OSError, subprocess.CalledProcessError):
        return b""
    return _hide_paths_of_yaml(patch)


def _diff(root: Path, *arguments: str) -> bytes:
    # The user's own settings could make it something that cannot be applied.
    plain = ("-c", "core.quotepath=true", "-c", "diff.noprefix=false")
    options = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv")
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
    return _git(root, *plain, "diff", *options, *prefixes, *arguments, allowed=(0, 1))


def _git(root: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    if done.returncode not in allowed:
        raise subprocess.CalledProcessError(done.returncode, "git", done.stdout, done.stderr)
    return done.stdout


def _hide_paths_of_yaml(patch: bytes) -> bytes:
    """Hide absolute paths that a patch adds to YAML files, such as presets; it still applies."""
    lines, is_yaml = patch.split(b"\n"), False
    for place, line in enumerate(lines):
        if line.startswith(b"diff --git "):
            is_yaml = line.endswith((b".yaml", b".yml"))
        elif is_yaml and line.startswith(b"+") and not line.startswith(b"+++ "):
            text = line.decode(errors="surrogateescape")
            lines[place] = _ABSOLUTE.sub(ELSEWHERE, text).encode(errors="surrogateescape")
    return b"\n".join(lines)


def hide_paths(text: str) -> str:
    """Take the folders from the absolute paths in a YAML file; all else stays as it is."""
    try:
        tree = YAML(typ="safe").load(io.StringIO(text))
    except YAMLError:
        return ""
    paths = {leaf for leaf in _leaves(tree) if isinstance(leaf, str) and Path(leaf).is_absolute()}
    for path in sorted(paths, key=len, reverse=True):
        whole = r"(?<![^\s\"'\[{])" + re.escape(path) + r"(?=[\"'\s,\]}]|$)"
        text = re.sub(whole, lambda _, name=Path(path).name: ELSEWHERE + name, text)  # type: ignore[misc]
    return text


def _leaves(tree: object) -> Iterator[object]:
    if isinstance(tree, Mapping):
        for branch in tree.values():
            yield from _leaves(branch)
    elif isinstance(tree, list):
        for branch in tree:
            yield from _leaves(branch)
    else:
        yield tree


def name_python() -> str:
    """Name the version of Python, as a tag."""
    return ".".join(map(str, sys.version_info[:3]))
