"""What a GPU does with training, prediction and heat maps: `gpu.py [--device cpu] [CHECK ...]`.

Each check is a process of its own, so that one that fails or hangs takes no other with it: first
those that ask whether the results are right, some at a time, then those that time, one by one.
Without a GPU `--device cpu` goes through the same lines at a small size.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gpu_checks
import gpu_common
import gpu_processes
import gpu_speed
import torch
from common import Figure, report

# Each with the seconds that it may take. Those of the first group run side by side.
BESIDE = {
    "kill_bf16": (gpu_checks.kill_bf16, 200),
    "kill_fp16": (gpu_checks.kill_fp16, 200),
    "precision": (gpu_checks.precision, 150),
    "ranks_gloo": (gpu_processes.ranks_gloo, 180),
    "processes": (gpu_checks.processes, 90),
    "predict": (gpu_checks.predict, 120),
    "heads": (gpu_checks.heads, 120),
    "compile": (gpu_checks.compiled, 200),
    "determinism": (gpu_checks.determinism, 150),
    "nccl_alone": (gpu_processes.nccl_alone, 90),
    "ranks_nccl": (gpu_processes.ranks_nccl, 90),
    "loader": (gpu_checks.loader, 60),
    "memory": (gpu_checks.memory, 120),
}
ALONE = {
    "speed": (gpu_speed.speed, 240),
    "heat": (gpu_speed.heat, 90),
    "speed_predict": (gpu_speed.speed_predict, 60),
    "speed_compiled": (gpu_speed.speed_compiled, 240),
}
AT_ONCE = 5
FOREVER = 1e6


def run_check(name: str, products: Path, device: str, limit: float) -> tuple[list, bool]:
    """Run a check in a process of its own: what it found, and whether it got to its end."""
    if limit < 5:
        print(f"--- {name}: not begun, no time is left", flush=True)
        return [f"{name} was not begun: no time was left."], False
    started = time.monotonic()
    command = [sys.executable, __file__, "--device", device, "--in", str(products), name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit)
        out, said, is_through = done.stdout, done.stderr, done.returncode == 0
    except subprocess.TimeoutExpired as error:
        out, is_through = error.stdout or b"", False
        said = (error.stderr or b"") + f"\nnot done after {limit:.0f} s".encode()
    seconds = time.monotonic() - started
    print(f"--- {name}: {'through' if is_through else 'FAILED'}, {seconds:.0f} s", flush=True)
    told = [json.loads(line) for line in out.decode().splitlines() if line[:1] in '{"']
    found = [Figure(**one) if isinstance(one, dict) else one for one in told]
    for one in found:
        print("   ", one if isinstance(one, str) else f"{one.name}: {one.value:.6g} {one.unit}")
    if not is_through:
        lines = [
            line for line in said.decode().splitlines() if "slice" not in line and line.strip()
        ]
        print("\n".join(lines)[-2000:], flush=True)
        found.append(f"{name} failed: {lines[-1] if lines else 'no word'}.")
    return found, is_through


def main() -> None:
    """Run the checks, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--in", dest="products", type=Path, help="set by the script itself")
    parser.add_argument("--seconds", type=float, default=FOREVER, help="that all may take")
    parser.add_argument("checks", nargs="*")
    arguments = parser.parse_args()
    if arguments.products:
        call, _ = (BESIDE | ALONE)[arguments.checks[0]]
        for one in call(arguments.products, arguments.device):
            print(json.dumps(one if isinstance(one, str) else vars(one)), flush=True)
        return
    ends = time.monotonic() + arguments.seconds
    wanted = arguments.checks or [*BESIDE, *ALONE]
    with tempfile.TemporaryDirectory() as name:
        products = gpu_common.make_studies(Path(name))

        def run(check: str) -> tuple[list, bool]:
            limit = min((BESIDE | ALONE)[check][1], ends - time.monotonic())
            return run_check(check, products, arguments.device, limit)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(run, [one for one in wanted if one in BESIDE]))
        found += [run(one) for one in wanted if one in ALONE]
    every = [one for told, _ in found for one in told]
    figures = [one for one in every if isinstance(one, Figure)]
    failed = sum(not is_through for _, is_through in found)
    figures.append(Figure("checks that failed", failed, "", at_most=0))
    if arguments.device == "cuda":  # a rehearsal has no figures worth keeping
        card = f"{torch.cuda.get_device_name()}, torch {torch.__version__}."
        told = [card, *(one for one in every if isinstance(one, str))]
        report("gpu", figures, " ".join(told))


if __name__ == "__main__":
    main()
