"""Whether a training can begin: asked while all that an earlier one left is still there."""

from hemtrace.errors import HemtraceError
from hemtrace.model import ModelSpec, create_net
from hemtrace.params import NetworkParams, TrainParams, View
from hemtrace.preflight import check_architecture
from hemtrace.train.optim import check_optimizer, choose_device
from hemtrace.train.processes import count_processes
from hemtrace.weights import describe_weights, fill_weights, input_statistics


def check_training(name: str, params: TrainParams, view: View, *, download: bool) -> None:
    """Refuse what a training would refuse, as far as no slice is needed to know; takes seconds.

    Parameters
    ----------
    name
        Of the parameters, for the sentence: `train`, or a system that is compared.
    params, view
        The network is made, and filled with its weights.
    download
        Whether timm's weights are fetched now; else they are left to the training.

    Raises
    ------
    HemtraceError
        If architecture, optimizer, device, processes or weights cannot be had.
    """
    try:
        check_architecture(params)
        check_optimizer(params)
        choose_device(params)
        count_processes(params)
        describe_weights(params)
        if params.weights == "scratch" or (params.weights == "timm" and not download):
            return
        mean, std = input_statistics(params)
        spec = ModelSpec(
            network=NetworkParams(**params.model_dump(include=set(NetworkParams.model_fields))),
            weights="",
            mean=mean,
            std=std,
            **view.model_dump(),
            synthetic=False,
            seed=0,
            train={},
            git_commit="",
            data_digest="",
        )
        fill_weights(create_net(spec), params)
    except HemtraceError as error:
        if name == "train":
            raise
        raise HemtraceError(f"{name}: {error}") from None
