import pytest
from ruamel.yaml import YAML

from hemtrace.errors import HemtraceError
from hemtrace.params import Params, Section, load_params, parse_params, render_params


def test_params_file_and_schema_name_the_same_fields(request):
    """The values are the user's; the names, and the comments above them, are the schema's."""
    text = (request.config.rootpath / "params.yaml").read_text()
    tree = YAML(typ="safe").load(text)
    assert list(tree) == list(Params.model_fields)
    for name in Params.model_fields:
        default = getattr(Params(), name)
        if isinstance(default, Section):
            assert list(tree[name]) == list(type(default).model_fields), name
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    rendered = render_params(Params()).splitlines()
    assert comments == [line for line in rendered if line.lstrip().startswith("#")]


def test_rendered_params_read_back_as_themselves(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(render_params(Params()))
    assert load_params(path) == Params()


def test_every_field_is_described():
    for name in Params.model_fields:
        section = getattr(Params(), name)
        if isinstance(section, Section):
            for field, info in type(section).model_fields.items():
                assert info.description, f"{name}.{field}"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trian": {}}, r"`trian` is not a parameter; known here are seed, phantom"),
        ({"ingest": {"windws": 1}}, r"`ingest.windws` is not a parameter; known here are raw"),
        ({"train": {"epochs": "many"}}, r"`train.epochs`: .*integer.*given: 'many'"),
        ({"train": {"epochs": 0}}, r"`train.epochs`: .*greater than or equal to 1 \(given: 0\)"),
        ({"train": {"weights": "magic"}}, r"`train.weights`: .*'scratch'.*given: 'magic'"),
        ({"train": {"weights": "file"}}, r"weights: file and weights_file belong together"),
        ({"split": {"val_share": 0.5, "test_share": 0.5}}, r"must leave at least 0.05"),
        ({"phantom": {"min_slices": 30, "max_slices": 20}}, r"at least min_slices"),
        (
            {"ingest": {"windows": [{"name": "x", "center_hu": 1}]}},
            r"0.width_hu` is missing",
        ),
        ({"ingest": {"windows": [{"name": "x", "center": 1}]}}, r"windows.0.center` is not a"),
        ({"ingest": 5}, r"`ingest`: .*given: 5"),
    ],
)
def test_a_wrong_parameter_is_told_by_name_and_value(tree, message):
    with pytest.raises(HemtraceError, match=message):
        parse_params(tree)


def test_a_file_that_is_missing_or_no_yaml_is_told(tmp_path):
    with pytest.raises(HemtraceError, match="was not found"):
        load_params(tmp_path / "params.yaml")
    for text, message in (("a: [", "is not valid YAML"), ("- 1", "must hold sections")):
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(HemtraceError, match=message):
            load_params(tmp_path / "params.yaml")
