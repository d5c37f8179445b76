"""Training speed: hemtrace against a bare step in memory, and against timm's own training path.

Bare: forward, backward and step on one batch that lies in memory, normalised. timm: its pip package
has no train.py, so its path is put together from its own parts as that script does, PNG files by
`create_dataset` and `create_loader`, with the script's defaults and with its best flags for a CPU;
leaving out the script's logging favours it. All on the same pictures, two threads, turn by turn.
"""

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from common import Figure, report, time_rounds
from read_back import make_head

from hemtrace.model import ModelSpec, create_net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams, TrainParams
from hemtrace.shards import TrainSlices, ValSlices
from hemtrace.train.loop import fit
from hemtrace.train.loss import weighted_log_loss
from hemtrace.train.optim import create_optimizer

# architecture, side, slices a step, slices a round
SETTINGS = (("tf_efficientnet_b4", 224, 16, 256), ("tf_efficientnet_lite0", 96, 32, 1280))
NO_AUGMENTATION = {
    "flip_horizontal": 0,
    "rotate_degrees": 0,
    "scale": 0,
    "shift": 0,
    "intensity": 0,
    "shift_hu": 0,
    "noise_hu": 0,
    "kernel": 0,
}
CONTENDERS = ("bare", "hemtrace", "augmented", "timm", "timm-best")


def make_files(folder: Path, side: int, count: int) -> None:
    """Write the real head's pictures as an npy shard, and as PNG files in two classes."""
    head = make_head(side)
    images = np.concatenate([head] * -(-count // len(head)))[:count]
    np.save(folder / "images.npy", images)
    for name in "01":
        (folder / "png/train" / name).mkdir(parents=True)
    for k, image in enumerate(images):
        path = folder / "png/train" / str(k % 2) / f"{k}.png"
        cv2.imwrite(str(path), np.ascontiguousarray(image.transpose(1, 2, 0)))


def new_net(architecture: str, side: int) -> tuple[torch.nn.Module, ModelSpec]:
    """Make the network that all train."""
    spec = ModelSpec(
        network=NetworkParams(architecture=architecture),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=side,
        synthetic=True,
        seed=1,
        train={},
        git_commit="",
        data_digest="",
    )
    return create_net(spec), spec


def hemtrace_round(folder: Path, architecture: str, side: int, batch: int, **more) -> Callable:
    """An epoch of `fit`, with its loader, its watch and a validation of four slices."""
    net, spec = new_net(architecture, side)
    images = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.zeros((len(images), 6), np.uint8)
    labels[::2, 4:] = 1
    chosen = TrainParams(
        architecture=architecture, weights="scratch", epochs=1, batch_size=batch, **more
    )

    def hold(kind: type, count: int):
        names = [str(k) for k in range(count)]
        places = np.zeros((count, 3), int)
        return kind(names, np.array(names), labels[:count], places, lambda i: images[i])

    slices = hold(TrainSlices, len(images)), hold(ValSlices, 4)
    return lambda: fit(spec, chosen, *slices, 1, net)


def bare_round(folder: Path, architecture: str, side: int, batch: int) -> Callable:
    """As many steps on one batch in memory."""
    net, _ = new_net(architecture, side)
    count = len(np.load(folder / "images.npy", mmap_mode="r"))
    # Hardly any rate: a batch that is learned by heart has gradients so small that they cost more.
    optimizer = create_optimizer(net, TrainParams(learning_rate=1e-6))
    images = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = (torch.rand(batch, 6) < 0.5).float()

    def steps() -> None:
        net.train()
        for _ in range(count // batch):
            optimizer.zero_grad(set_to_none=True)
            weighted_log_loss(net.backbone(images), labels).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()

    return steps


def timm_round(folder: Path, architecture: str, side: int, batch: int, best: bool) -> Callable:
    """The loop of timm's train.py over its own loader."""
    import timm.optim
    from timm.data import create_dataset, create_loader

    net = timm.create_model(architecture, num_classes=2)
    if best:
        net = net.to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.01)
    dataset = create_dataset("", str(folder / "png"), split="train", is_training=True)
    flags = {"no_aug": True, "num_workers": 2} if best else {"num_workers": 4, "color_jitter": 0.4}
    loader = create_loader(
        dataset,
        input_size=(3, side, side),
        batch_size=batch,
        is_training=True,
        device=torch.device("cpu"),
        interpolation="bicubic" if best else "random",
        persistent_workers=True,
        **flags,
    )
    loss_of = torch.nn.CrossEntropyLoss()

    def steps() -> None:
        net.train()
        for images, labels in loader:
            if best:
                images = images.contiguous(memory_format=torch.channels_last)
            loss = loss_of(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def choose(contender: str, folder: Path, architecture: str, side: int, batch: int) -> Callable:
    """Give the function that does a round."""
    where = (folder, architecture, side, batch)
    if contender == "bare":
        return bare_round(*where)
    if contender == "hemtrace":
        return hemtrace_round(*where, **NO_AUGMENTATION)
    if contender == "augmented":
        return hemtrace_round(*where)
    return timm_round(*where, best=contender == "timm-best")


def serve(contender: str, folder: Path, architecture: str, side: str, batch: str) -> None:
    """Say when ready, and do a round each time the word is given."""
    torch.set_num_threads(2)
    one_round = choose(contender, folder, architecture, int(side), int(batch))
    print("ready", flush=True)
    for _ in sys.stdin:
        one_round()
        print("done", flush=True)
        # All contenders live at once: what this one does not need now is another's.
        with suppress(AttributeError, OSError):  # as on systems without glibc
            ctypes.CDLL(None).malloc_trim(0)


def play(worker: subprocess.Popen, count: int) -> int:
    """Let a worker do a round."""
    worker.stdin.write("go\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "done\n"
    return count


def measure(architecture: str, side: int, batch: int, count: int) -> list[Figure]:
    """Time all contenders on one network and size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, side, count)
        workers = {}
        for contender in CONTENDERS:
            arguments = [contender, name, architecture, str(side), str(batch)]
            worker = subprocess.Popen(
                [sys.executable, __file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            if worker.stdout.readline() != "ready\n":
                raise SystemExit(f"{contender} did not start")
            workers[contender] = worker
        calls = {name: partial(play, worker, count) for name, worker in workers.items()}
        speed = time_rounds(calls, rounds=2)
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    own, title = speed["hemtrace"], f"{architecture}, {side} px"
    goal = 1.3 if side > 96 else 1.5
    return [
        Figure(f"{title}: hemtrace", own, "slices/s"),
        Figure(f"{title}: with the default augmentation", speed["augmented"], "slices/s"),
        Figure(f"{title}: bare step in memory", speed["bare"], "slices/s"),
        Figure(f"{title}: timm, defaults", speed["timm"], "slices/s"),
        Figure(f"{title}: timm, channels_last", speed["timm-best"], "slices/s"),
        Figure(f"{title}: against the bare step", own / speed["bare"], "x", at_least=0.97),
        Figure(f"{title}: against timm's defaults", own / speed["timm"], "x", at_least=goal),
        Figure(f"{title}: against timm's best", own / speed["timm-best"], "x", at_least=1.0),
    ]


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    else:
        report("train_speed", [figure for one in SETTINGS for figure in measure(*one)])
