"""Several processes on one GPU, and NCCL; run by `gpu.py`.

NCCL wants a GPU for each process. On one GPU two processes therefore meet by gloo, which sends what
lies on the GPU by way of main memory: so DDP, torch's SyncBatchNorm and the gathering of
predictions run on CUDA tensors as they would over NCCL.
"""

import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
from common import Figure
from gpu_common import UNCHANGED, Found, make_job, new_spec, train
from torch.nn.parallel import DistributedDataParallel

from hemtrace.model import create_net
from hemtrace.train import step
from hemtrace.train.batch_norm import sync_batch_norms
from hemtrace.train.job import TrainJob, train_model
from hemtrace.train.processes import RENDEZVOUS, World

MORE = {"epochs": 4, "optimizer": "sgd", "learning_rate": 1e-2, "precision": "fp32"}


def ranks_gloo(products: Path, device: str) -> Found:
    """Two processes against one: the loss curve."""
    for kind in ("fp32", "bf16") if device == "cuda" else ("fp32",):
        more = MORE | UNCHANGED | {"precision": kind, "deterministic": True}
        job = make_job(products, f"ranks_{kind}", device, **more)
        said = _run_ranks(job, "gloo", 100)
        if not job.history.is_file():
            raise SystemExit(said)
        one = train(products, f"alone_{kind}", device, **more)
        two = pl.read_parquet(job.history)
        for name in ("train_loss", "val_loss"):
            apart = np.abs(two[name].to_numpy() - one[name].to_numpy())
            title = f"two processes and one, {kind}: "
            yield Figure(f"{title}first {name} apart", float(apart[0]), "")
            yield Figure(f"{title}{name} apart", float(apart.max()), "")
        yield Figure(f"two processes, {kind}: an epoch", float(two["seconds"].min()), "s")
        yield Figure(f"one process, {kind}: an epoch", float(one["seconds"].min()), "s")


def ranks_nccl(products: Path, device: str) -> Found:
    """Two processes on one GPU over NCCL: what it says."""
    if device == "cpu":
        return
    job = make_job(products, "ranks_nccl", device, **(MORE | UNCHANGED))
    said = _run_ranks(job, "nccl", 70)
    lines = [line for line in said.splitlines() if "uplicate" in line or "Error" in line]
    yield Figure("two processes on one GPU over NCCL", float(job.history.is_file()), "")
    yield f"NCCL said of two processes on one GPU: {(lines or [said[-300:]])[-1].strip()[:300]!r}"


def nccl_alone(_: Path, device: str) -> Found:
    """NCCL with one process: sums, gathering, DDP and SyncBatchNorm."""
    sent = np.arange(5.0)
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=(Path(folder) / "rendezvous").as_uri(),
            rank=0,
            world_size=1,
        )
        world = World(0, 2)  # of two, so that it does ask the others; there is but one
        at = torch.device(device, 0) if device == "cuda" else torch.device("cpu")
        summed = world.sum([0.1, 2.0], at) == [0.1, 2.0]
        gathered: list = [None]
        torch.distributed.all_gather_object(gathered, sent)
        same = float(summed and np.array_equal(gathered[0], sent))
        yield Figure("NCCL, one process: sums and objects come back whole", same, "", at_least=1)
        net, plain = (create_net(new_spec("tf_efficientnet_b0", 96)).to(at) for _ in range(2))
        sync_batch_norms(net, at)
        parallel = wrap(net, device_ids=[0] if device == "cuda" else None)
        images = torch.randint(0, 256, (16, 3, 96, 96), dtype=torch.uint8, device=at)
        for way in (parallel, plain):
            way(images).square().sum().backward()
        own, judge = (
            torch.cat([parameter.grad.flatten() for parameter in way.parameters()])
            for way in (net, plain)
        )
        apart = float((own - judge).norm() / judge.norm())
        yield Figure("NCCL, one process: gradients by DDP apart", apart, "", at_most=1e-3)
        torch.distributed.destroy_process_group()


def _run_ranks(job: TrainJob, backend: str, limit: float) -> str:
    """Start two processes on the first GPU; what they said."""
    path = job.checkpoint.parent.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(job.model_dump_json())
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            RENDEZVOUS: (Path(folder) / "rendezvous").as_uri(),
            "WORLD_SIZE": "2", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "2", "NCCL_DEBUG": "WARN",
            "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, str(path), backend],
                env=os.environ | shared | {"RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        said = []
        for process in processes:
            try:
                said.append(process.communicate(timeout=limit)[0])
            except subprocess.TimeoutExpired:
                for one in processes:
                    one.kill()
                said.append(process.communicate()[0] + f"\nnot done after {limit} s")
    return "\n".join(said)


def wrap(net: torch.nn.Module, device_ids: list[int] | None, **_: object) -> torch.nn.Module:
    """Wrap a network as the training does, with torch 2.11 too, which has another word for it."""
    known = inspect.signature(DistributedDataParallel).parameters
    word = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(net, device_ids=device_ids, **{word: False})


def main(path: Path, backend: str) -> None:
    """Be one of the processes."""
    step.DistributedDataParallel = wrap
    begin = torch.distributed.init_process_group

    def begin_by(_: str, **more: object) -> None:
        begin(backend, **more)

    torch.distributed.init_process_group = begin_by
    train_model(TrainJob.model_validate_json(path.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
