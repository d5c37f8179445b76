"""`dvc.yaml` and the Snakemake rules describe one graph: what one says the other must say too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from snakemake.api import ConfigSettings, ResourceSettings, SnakemakeApi
from snakemake.io import strip_wildcard_constraints

from hemtrace.params import Params

ROOT = Path(__file__).parents[1]
STAGES = ["phantom", "ingest", "split", "train", "evaluate", "compare", "explain", "report"]


@pytest.fixture(scope="module")
def stages():
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """Snakemake's own reading of the rules, with the schema's default parameters."""
    from hemtrace.params import render_params

    config = tmp_path_factory.mktemp("contract") / "params.yaml"
    config.write_text(render_params(Params()))
    with SnakemakeApi() as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[config]),
            snakefile=ROOT / "Snakefile",
            workdir=ROOT,
        )
        return {rule.name: rule for rule in workflow._workflow.rules}


def rules_of(stage):
    return stage["cmd"][0] if isinstance(stage["cmd"], list) else stage["cmd"]


def allowed_rules(stage):
    return rules_of(stage).partition("--allowed-rules ")[2].split()


def paths(entries):
    """The paths of a DVC list whose entries are strings or one-key mappings."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def outs_of(stage):
    return paths([*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])])


def covered(path, by):
    """Whether a path, or a folder above it, is listed."""
    return any(path == entry or path.startswith(entry + "/") for entry in by)


def test_stages_are_the_same_everywhere(stages):
    assert list(stages) == STAGES
    for name in STAGES:
        assert (ROOT / f"workflow/rules/{name}.smk").is_file()
        assert name in Params.model_fields
        module = ROOT / "src/hemtrace" / name
        assert module.is_dir() or module.with_suffix(".py").is_file()


def test_every_rule_belongs_to_one_stage(stages, rules):
    listed = [rule for stage in stages.values() for rule in allowed_rules(stage)]
    assert sorted(listed) == sorted(set(rules) - {"all"})


@pytest.mark.parametrize("name", STAGES)
def test_target_stands_before_allowed_rules(stages, name):
    targets, _, options = rules_of(stages[name]).partition(" --profile workflow/profiles/dvc ")
    assert targets.split()[:2] == ["snakemake", name]
    assert options.startswith("--allowed-rules ")
    assert set(targets.split()[1:]) <= set(allowed_rules(stages[name]))


@pytest.mark.parametrize("name", STAGES)
def test_outs_are_the_outputs_of_the_rules(stages, rules, name):
    outs = outs_of(stages[name])
    outputs = [str(path) for rule in allowed_rules(stages[name]) for path in rules[rule].output]
    for path in outputs:
        assert covered(path, outs), f"{path} is not in the outs of {name}"
    for out in outs:
        assert any(path == out or path.startswith(out + "/") for path in outputs), out


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_outside_inputs_of_the_rules(stages, rules, name):
    own = allowed_rules(stages[name])
    produced = [path for rule in own for path in rules[rule].output]
    # A function's inputs are known for a job alone: the files of train.weights_file, of the user.
    inputs = {str(path) for rule in own for path in rules[rule].input if not callable(path)}
    inputs = {
        path
        for path in inputs
        if not any(
            made.match(path) or strip_wildcard_constraints(made) == path for made in produced
        )
    }
    scripts = filter(None, (rules[rule].script for rule in own))
    inputs |= {f"workflow/scripts/{Path(script).name}" for script in scripts}
    deps = paths(stages[name]["deps"])
    for path in inputs:
        assert covered(path, deps), f"{path} is not in the deps of {name}"
    for dep in deps:
        assert any(path == dep or path.startswith(dep + "/") for path in inputs), dep


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_the_rules_use(stages, rules, name):
    """A section is a DVC parameter of a stage if, and only if, a rule of the stage takes it."""
    declared = {param.partition(".")[0] for param in stages[name].get("params", [])}
    assert declared <= set(Params.model_fields)
    text = (ROOT / f"workflow/rules/{name}.smk").read_text()
    used = {
        field
        for field in Params.model_fields
        if f"P.{field}" in text or f'section("{field}")' in text
    }
    if "P.is_phantom" in text:
        used.add("ingest")
    assert declared == used


@pytest.mark.parametrize("name", STAGES)
def test_every_rule_has_log_benchmark_threads_resources_and_message(rules, stages, name):
    for rule in (rules[name] for name in allowed_rules(stages[name])):
        assert rule.message, rule.name
        if rule.norun:  # it only names what others make
            continue
        assert rule.log, rule.name
        assert rule.benchmark, rule.name
        assert "mem_mb" in rule.resources, rule.name
        assert rule.resources["_cores"], rule.name
        assert rule.message, rule.name


def test_snakemake_lint_is_clean():
    done = subprocess.run(
        ["snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_jobs_without_a_network_start_without_torch():
    """Its import takes five seconds, and twice that cold: of every such job, on every run."""
    scripts = ["compare", "evaluate", "evaluate_predict", "ingest_page", "report", "split_study"]
    imports = "import ast, sys\n" + "\n".join(
        ast.unparse(node)
        for name in scripts
        for node in ast.parse((ROOT / f"workflow/scripts/{name}.py").read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    check = f"{imports}\nassert 'torch' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", check], check=True)
