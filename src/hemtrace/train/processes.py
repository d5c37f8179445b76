"""The processes of one training: each has its own part of every step."""

import datetime
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed

from hemtrace.errors import HemtraceError, StoppedError
from hemtrace.params import RunParams

# Where processes on one machine meet: a file, since torchrun's store listens on all interfaces.
RENDEZVOUS = "HEMTRACE_RENDEZVOUS"
# Where a process leaves its last sentence for the one that started it.
SENTENCES = "HEMTRACE_SENTENCES"
_POLL_SECONDS = 0.1
_SECONDS_TO_FOLLOW = 20.0
_TIMEOUT = datetime.timedelta(minutes=30)
STOPPED_STATUS = 143  # what a shell says of a process that SIGTERM ended


@dataclass(frozen=True)
class World:
    """The processes that train together, as one of them sees it."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and shows."""
        return self.rank == 0

    def sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Add numbers over all processes."""
        if self.size == 1:
            return list(values)
        # float64 is exact for counts, and keeps the order of the processes out of the sums.
        total = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        added: list[float] = total.tolist()
        return added

    def gather(self, value: Any) -> list[Any]:
        """Collect a value of each process, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


@contextmanager
def join_world(params: RunParams) -> Iterator[World]:
    """Meet the other processes, as torchrun, Slurm or `run_processes` started them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    rank = int(os.environ["RANK"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    uses_gpu = params.device != "cpu" and torch.cuda.is_available()
    if uses_gpu:
        torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group(
        "nccl" if uses_gpu else "gloo",
        init_method=os.environ.get(RENDEZVOUS, "env://"),
        rank=rank,
        world_size=size,
        timeout=_TIMEOUT,
    )
    try:
        yield World(rank, size, local_rank)
    finally:
        torch.distributed.destroy_process_group()


def count_processes(params: RunParams) -> int:
    """Say how many processes this machine shall train with.

    Raises
    ------
    HemtraceError
        If more are asked for than there are GPUs to train on.
    """
    gpus = torch.cuda.device_count() if params.device != "cpu" else 0
    if params.processes == 0:
        return max(1, gpus)
    if gpus and params.processes > gpus:
        raise HemtraceError(
            f"train.processes: {params.processes}, but this machine has {gpus} GPUs; "
            "set 0 to use them all."
        )
    return params.processes


def run_processes(module: Sequence[str], count: int) -> None:
    """Run a Python module in several processes on this machine, and show what they print.

    Parameters
    ----------
    module
        What stands after `python`: `-m`, its name, and arguments.
    count
        Of processes.

    Raises
    ------
    HemtraceError
        With the sentence of the first that failed; the others are ended.
    StoppedError
        If they stopped because this process was told to.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory(prefix="hemtrace-") as folder:
        shared = {
            RENDEZVOUS: (Path(folder) / "rendezvous").as_uri(),
            SENTENCES: folder,
            "WORLD_SIZE": str(count),
            "OMP_NUM_THREADS": str(max(1, (cores or 1) // count)),
        }
        if sys.platform == "linux" and not torch.cuda.is_available():
            shared["GLOO_SOCKET_IFNAME"] = "lo"  # one machine: nothing listens to the network
        processes = [
            _start([sys.executable, *module], shared | {"RANK": str(k), "LOCAL_RANK": str(k)}, k)
            for k in range(count)
        ]
        _wait_for(processes, Path(folder))


def run_launcher(launcher: str, module: Sequence[str]) -> None:
    """Let another program start the processes: torchrun, or srun with it.

    Parameters
    ----------
    launcher
        The command that stands in place of `python`.
    module, Raises
        As for `run_processes`.
    """
    with tempfile.TemporaryDirectory(prefix="hemtrace-") as folder:
        _wait_for([_start([*shlex.split(launcher), *module], {SENTENCES: folder}, 0)], Path(folder))


def _start(command: list[str], more: Mapping[str, str], rank: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            env=os.environ | more,
            # The first one's output is shown as it comes; what the others say are warnings.
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if rank == 0 else None,
        )
    except OSError as error:
        raise HemtraceError(
            f"The command {command[0]} cannot be started ({error.strerror}); check train.launcher."
        ) from None


def _wait_for(processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    told_to_stop = False

    def pass_on(number: int, _: Any) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        for process in processes:
            process.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, pass_on) for number in numbers]
    output = threading.Thread(target=_show, args=(processes[0].stdout,), daemon=True)
    output.start()
    try:
        deadline = None
        while any(process.poll() is None for process in processes):
            time.sleep(_POLL_SECONDS)
            # The others wait for one that has failed, with some backends for ever.
            if any(process.poll() for process in processes):
                deadline = deadline or time.monotonic() + _SECONDS_TO_FOLLOW
                if time.monotonic() > deadline:
                    break
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        for process in processes:
            process.kill()
        output.join()
    statuses = [process.wait() for process in processes]
    if not any(statuses):
        return
    sentences = sorted(folder.glob("sentence.*"))
    text = sentences[0].read_text() if sentences else ""
    if told_to_stop or STOPPED_STATUS in statuses:
        raise StoppedError(text or "Training was told to stop.")
    raise HemtraceError(
        text or f"A training process ended with status {max(statuses, key=abs)}; see above."
    )


def _show(stream: IO[bytes] | None) -> None:
    while stream is not None and (part := os.read(stream.fileno(), 65536)):
        sys.stderr.write(part.decode("utf-8", "replace"))
        sys.stderr.flush()


def leave_sentence(error: HemtraceError) -> None:
    """Leave the sentence of an error for the process that started this one."""
    if SENTENCES in os.environ:
        path = Path(os.environ[SENTENCES]) / f"sentence.{os.environ.get('RANK', 0)}"
        path.write_text(str(error))
