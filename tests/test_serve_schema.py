"""The API tried against its own OpenAPI by schemathesis, without and with a token."""

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from serving import API, HEADERS, follow, make_model, make_settings, make_study, send, serve_here

from hemtrace.serve import Limits, create_app

# Nothing may be refused because other tries are still at work.
ROOMY = Limits(waiting=10_000, kept=10_000, upload_bytes=10**6)


@pytest.fixture(scope="module")
def api_schema(tmp_path_factory):
    model = make_model(tmp_path_factory.mktemp("model"))
    app = create_app(make_settings(model, tmp_path_factory.mktemp("serve"), ROOMY))
    with serve_here(app) as address:
        # What a job does is not tried here, and would take the time.
        app.state.service.jobs._work = lambda job: None
        httpx2.get(f"{address}{API}/model", timeout=60)
        yield schemathesis.openapi.from_url(f"{address}{API}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_keeps_what_its_openapi_says(api_schema, mode):
    operations = [one.ok() for one in api_schema.get_all_operations()]
    assert len(operations) == 13
    tried = 0
    for operation in operations:

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def keep(case):
            case.call_and_validate()

        try:
            keep()
            tried += 1
        except Unsatisfiable:  # where any text is an id, no address is wrong
            assert mode is GenerationMode.NEGATIVE
    assert tried >= 8


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The schema of a server, and the id of a study on it that is done."""
    model = make_model(tmp_path_factory.mktemp("model"))
    app = create_app(make_settings(model, tmp_path_factory.mktemp("serve")))
    with serve_here(app) as address, httpx2.Client(base_url=address, timeout=60) as client:
        study_id = send(client, make_study(8)).json()["id"]
        follow(client, study_id)
        yield schemathesis.openapi.from_url(f"{address}{API}/openapi.json"), study_id


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/events",
        "/previews/{number}.png",
        "/series/{number}/volume.nii",
        "/series/{number}/heat/{label}.nii",
        "/table.csv",
        "/summary.html",
        "/results.dcm.zip",
    ],
)
def test_a_real_study_is_told_as_openapi_says(done, path):
    told, study_id = done
    operation = told[f"{API}/studies/{{study_id}}{path}"]["GET"]
    parameters = {"study_id": study_id}
    if "number" in path:
        parameters["number"] = 0
    if "label" in path:
        parameters["label"] = "any"
    case = operation.Case(path_parameters=parameters, headers=HEADERS)
    answer = case.call()
    assert answer.status_code == 200
    case.validate_response(answer)
