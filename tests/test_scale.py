"""Runs that span processes, accumulate, are killed and go on: the number of processes and of kills changes nothing."""

import json
import math
import random
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import oracle_training
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from conftest import TINY_BACKBONE
from safetensors.torch import load_file

from fashion_detr.training.checkpoints import SEAL, fault, last_sound_checkpoint, seal
from fashion_detr.training.trainer import ELAPSED_FILE, step_schedule
from fashion_detr.training.weight_average import WeightAverage

ROOT = Path(__file__).parent.parent
KILLS = 3


def run_training_oracle(output: Path, processes: int, batch: int, accumulation: int) -> dict:
    if processes == 1:
        oracle_training.train(output, batch, accumulation)
        return torch.load(output)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    script = [str(ROOT / "tests" / "oracle_training.py"), str(output), str(batch), str(accumulation)]
    done = subprocess.run([*launcher, *script], capture_output=True, text=True, timeout=300, cwd=output.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(output)


def test_processes_and_accumulation_change_nothing(tmp_path):
    """Four photos a step for 20 steps: at once, on two processes, in two halves. They differ in instances."""
    one = run_training_oracle(tmp_path / "one.pt", 1, 4, 1)
    two = run_training_oracle(tmp_path / "two.pt", 2, 2, 1)
    halves = run_training_oracle(tmp_path / "halves.pt", 1, 2, 2)
    assert (one["processes"], two["processes"], halves["processes"]) == (1, 2, 1)
    assert len(one["gradient_norms"]) == 20 and one["metrics"]["eval_loss"] > 0
    # The loss of an evaluation is the mean over batches, and those of two processes together are as large as one's.
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-5)
    for other in (two, halves):
        assert other["gradient_norms"] == pytest.approx(one["gradient_norms"], abs=1e-5)
        assert other["logged"] == pytest.approx(one["logged"], abs=1e-5)
        for name, weight in one["weights"].items():
            torch.testing.assert_close(other["weights"][name], weight, rtol=0, atol=1e-5)


def training_command(output: Path, **options) -> list[str]:
    model = {
        "backbone_config": TINY_BACKBONE,
        "d_model": 32,
        "num_queries": 8,
        "decoder_layers": 1,
        "decoder_ffn_dim": 64,
    }
    options = {
        "output_dir": output,
        "model_config": json.dumps(model, separators=(",", ":")),
        "image_size": "96 64",
        "synthetic_train_images": 24,
        "synthetic_eval_images": 3,
        "dataloader_num_workers": 0,
        "eval_strategy": "no",
        "save_steps": 2,
        "save_total_limit": 2,
        "load_best_model_at_end": False,
        "ema_decay": 0.99,
        "warmup_steps": 2,
    } | options
    command = [sys.executable, str(ROOT / "train.py"), str(ROOT / "configs" / "demo.yaml"), "--use_cpu"]
    return command + [part for name, value in options.items() for part in (f"--{name}", *str(value).split(" "))]


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def test_a_run_that_is_killed_ends_like_one_that_is_not(tmp_path):
    """Killed at chance moments, some of them while a checkpoint is being written; once one is cut short by hand."""
    run(training_command(tmp_path / "straight", max_steps=30), tmp_path)
    command = [*training_command(tmp_path / "killed", max_steps=30), "--resume_from_checkpoint", "true"]
    chance = random.Random(0)
    for kill in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
        before = last_sound_checkpoint(tmp_path / "killed") if kill else None
        while process.poll() is None and _step(tmp_path / "killed") < (_step(before) if before else 0) + 4:
            time.sleep(0.02)
        time.sleep(chance.random() / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = last_sound_checkpoint(tmp_path / "killed")
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    complete = last_sound_checkpoint(tmp_path / "killed")
    (complete / ELAPSED_FILE).write_text(json.dumps({"minutes": 60}))
    seal(complete)
    log = run(command, tmp_path)
    assert json.loads((tmp_path / "killed" / "metrics.json").read_text())["training_minutes"] > 60
    assert f"Passing over {newest}" in log and "Going on from" in log
    straight, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    assert straight.keys() == killed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, killed[name]), name


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _step(folder: Path) -> int:
    """The step of a checkpoint, or of a run's newest."""
    if folder.name.startswith("checkpoint-"):
        return _number(folder)
    return max(map(_number, folder.glob("checkpoint-*")), default=0)


def test_only_a_complete_checkpoint_counts(tmp_path, caplog):
    for step in (5, 10, 20, 100):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "weights.bin").write_bytes(bytes(range(step)))
        (folder / "state.json").write_text("{}")
    assert last_sound_checkpoint(tmp_path) is None
    for step in (5, 10, 20):
        seal(tmp_path / f"checkpoint-{step}")
    assert last_sound_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    (tmp_path / "checkpoint-20" / "deep" / "weights.bin").write_bytes(bytes(19))
    assert fault(tmp_path / "checkpoint-20") == "deep/weights.bin is damaged"
    (tmp_path / "checkpoint-10" / "state.json").unlink()
    assert fault(tmp_path / "checkpoint-10") == "state.json is missing"
    caplog.clear()
    assert last_sound_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "it was not written to its end",
        "deep/weights.bin is damaged",
        "state.json is missing",
    ]
    (tmp_path / "checkpoint-5" / SEAL).write_text('{"state')
    assert last_sound_checkpoint(tmp_path) is None


def test_the_average_of_the_weights():
    """The first update copies; the second keeps 2/11, which is less than d = 0.22; from the third on d is the less."""
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.22)
    expected = None
    for updates, value in enumerate((1.0, 3.0, 7.0, 5.0)):
        torch.nn.init.constant_(model.weight, value)
        average.update()
        kept = min(0.22, (1 + updates) / (10 + updates))
        expected = value if expected is None else kept * expected + (1 - kept) * value
    with average.in_place(), average.in_place():  # as an evaluation of several data sets does
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 5
    average.keep()
    assert model.weight.item() == pytest.approx(expected)


def test_the_rate_rises_then_falls_in_steps():
    rates = [step_schedule(step, warmup=3, drops=[6, 8.5]) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_a_run_can_be_repeated_from_its_folder(tmp_path):
    """The folder's own configuration gives the same weights; pictures and figures are in TensorBoard."""
    options = {"max_steps": 3, "save_strategy": "no", "report_to": "tensorboard", "eval_strategy": "steps"}
    run(training_command(tmp_path / "first", eval_steps=3, logging_steps=1, lr_drop_epochs=2, **options), tmp_path)
    written = yaml.safe_load((tmp_path / "first" / "config.yaml").read_text())
    assert written["max_steps"] == 3 and written["lr_drop_epochs"] == [2.0]
    again = [sys.executable, str(ROOT / "train.py"), str(tmp_path / "first" / "config.yaml"), "--report_to", "none"]
    run([*again, "--output_dir", str(tmp_path / "second")], tmp_path)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    environment = json.loads((tmp_path / "first" / "environment.json").read_text())
    assert environment["packages"]["torch"] == metadata.version("torch") and environment["processes"] == 1
    assert "Images: 24 to learn from" in (tmp_path / "first" / "train.log").read_text()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = next((tmp_path / "first").rglob("events.out.tfevents.*"))
    board = EventAccumulator(str(events.parent)).Reload()
    assert len([tag for tag in board.Tags()["images"] if tag.startswith("overlays/")]) == 3
    figures = {tag: board.Scalars(tag)[-1].value for tag in board.Tags()["scalars"]}
    assert 0 <= figures["eval/AP_IoU"] <= 1 and math.isfinite(figures["train/loss/dice_stage1"])


def test_launch_configurations():
    """accelerate reads them, and a step of every one that is for the paper's recipes can be 16 photos."""
    processes = {}
    for file in sorted((ROOT / "configs" / "accelerate").glob("*.yaml")):
        config = load_config_from_file(str(file))
        processes[file.stem] = config.num_processes
        assert 16 % config.num_processes == 0 and config.mixed_precision == "bf16"
        commands = [line for line in file.read_text().splitlines() if line.startswith("# accelerate launch")]
        assert len(commands) == 1 and f"configs/accelerate/{file.name}" in commands[0]
    assert processes == {"one_gpu": 1, "eight_gpus": 8, "two_nodes": 16, "fsdp2": 8, "deepspeed_zero2": 8}
