import shutil

import pytest

from hemtrace.errors import HemtraceError
from hemtrace.params import Params, load_params, render_params
from hemtrace.presets import use_preset


@pytest.fixture
def project(tmp_path, request):
    shutil.copytree(request.config.rootpath / "presets", tmp_path / "presets")
    (tmp_path / "params.yaml").write_text(render_params(Params()))
    return tmp_path


@pytest.mark.parametrize("name", ["rsna-paper", "laptop", "smoke"])
def test_each_preset_merges_into_valid_params_and_keeps_comments(project, name):
    before = (project / "params.yaml").read_text()
    assert use_preset(name, [], project)
    after = (project / "params.yaml").read_text()
    load_params(project / "params.yaml")
    kept = [line for line in before.splitlines() if line.lstrip().startswith("#")]
    assert [line for line in after.splitlines() if line.lstrip().startswith("#")] == kept


def test_the_paper_preset_holds_the_papers_recipe(project):
    use_preset("rsna-paper", ["ingest.raw=/data/rsna"], project)
    params = load_params(project / "params.yaml")
    assert params.ingest.raw == "/data/rsna"
    assert not params.is_phantom
    assert params.ingest.size == 380
    train = params.train
    assert (train.architecture, train.weights) == ("tf_efficientnet_b4", "timm")
    assert (train.batch_size, train.learning_rate, train.epochs) == (32, 1.25e-4, 15)
    assert (train.flip_horizontal, train.flip_vertical) == (0.25, 0.10)
    moves = (train.rotate_degrees, train.scale, train.shift, train.intensity)
    assert {*moves, train.shift_hu, train.noise_hu, train.kernel} == {0}


def test_using_a_preset_twice_changes_nothing_more(project):
    use_preset("smoke", [], project)
    first = (project / "params.yaml").read_text()
    assert use_preset("smoke", [], project) == []
    assert (project / "params.yaml").read_text() == first


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nosuch", [], "There is no preset 'nosuch'; there are: .*rsna-paper"),
        ("smoke", ["train.epochs"], "is no setting; write section.field=value"),
        ("smoke", ["train.epochz=3"], "`train.epochz` is not a parameter"),
        ("smoke", ["train.epochs=x"], "`train.epochs`"),
    ],
)
def test_a_wrong_preset_or_setting_leaves_the_file_alone(project, name, settings, message):
    before = (project / "params.yaml").read_text()
    with pytest.raises(HemtraceError, match=message):
        use_preset(name, settings, project)
    assert (project / "params.yaml").read_text() == before
