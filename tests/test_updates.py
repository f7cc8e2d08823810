"""Steps that are not finite: noticed without waiting for the device, skipped whole, and not for ever."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from modules.config.training import LoopParams
from modules.data.sampling import EpochSampler
from modules.errors import UserError
from modules.training.checkpoint import load_checkpoint
from modules.training.run import build_accelerator
from modules.training.trainer import LATEST, Layout, Objective, Trainer


def _load(net: nn.Module, entries: dict, path: object) -> list[str]:
    net.load_state_dict(entries["net"])
    return []


LAYOUT = Layout(lambda net: {"net": net.state_dict()}, _load)


class Numbers(Dataset):
    """Items of ones, and of NaN where ``bad`` says."""

    def __init__(self, length: int, bad: set[int]):
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        value = float("nan") if key[1] in self.bad else 1.0
        return {"x": torch.full((3,), value) + torch.arange(3.0) * key[1]}


class Squares(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, batch):
        return {"square": (self.net(batch["x"]) - 2).square().mean()}, None


def trainer_of(bad: set[int], **params) -> Trainer:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    loop = LoopParams(**{"num_epochs": 1, "batch_size": 2, "log_every": 4, "ema_decay": 0.9} | params)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, fused=True)
    loader = DataLoader(Numbers(64, bad), batch_sampler=EpochSampler(64, loop.batch_size))
    accelerator = build_accelerator(loop, cpu=True)
    return Trainer(net, LAYOUT, [Objective(Squares(net), {"optimizer": optimizer})], loader, loop, accelerator)


def test_a_step_that_is_not_finite_leaves_everything_as_it_was():
    trainer = trainer_of(set())
    good = {"x": torch.rand(2, 3)}
    trainer.step(good)
    before = {name: t.clone() for name, t in trainer.model.state_dict().items()}
    moments = {name: t.clone() for name, t in _moments(trainer).items()}
    trainer.step({"x": torch.tensor([[float("nan")] * 3, [1.0] * 3])})
    after = trainer.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "num_batches" not in name)
    assert all(torch.equal(moments[name], t) for name, t in _moments(trainer).items())
    trainer.step(good)
    assert not torch.equal(before["1.weight"], trainer.model.state_dict()["1.weight"])
    assert int(trainer.position.skipped) == 1 and trainer.position.step == 3


def _moments(trainer: Trainer) -> dict[str, torch.Tensor]:
    (state,) = (o.state_dict()["state"] for o in trainer.optimizers.values())
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def test_skipped_steps_are_counted_and_the_epoch_mean_is_of_the_others(tmp_path):
    trainer = trainer_of({3})
    trainer.fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(4, 33, 4))
    assert lines[-1]["skipped"] == 1
    assert all(line["loss"]["square"] == line["loss"]["square"] for line in lines)  # not NaN
    text = (tmp_path / "log.txt").read_text()
    assert "square - nan" not in text
    assert "# epoch 0: steps skipped, since losses or gradients were not finite: 1" in text
    assert all(t.isfinite().all() for t in trainer.averaged.state_dict().values())


def test_a_run_of_them_stops_training_within_a_line_of_the_log(tmp_path):
    trainer = trainer_of(set(range(64)))
    with pytest.raises(UserError, match="not finite for 1[0-9] steps in a row; lower the learning rates"):
        trainer.fit(tmp_path)
    assert trainer.position.step == 12  # ten in a row are there after step 10, and every fourth is looked at


def test_a_time_budget_ends_the_run_and_stays_spent(tmp_path):
    trainer = trainer_of(set(), num_epochs=10**6, minutes=0.5 / 60, cosine=True)
    trainer.fit(tmp_path)
    rate = trainer.optimizers["optimizer"].param_groups[0]["lr"]
    assert 0.5 <= trainer.position.seconds < 2 and rate < 1e-3  # the cosine has come down
    (last,) = sorted(tmp_path.glob("*-checkpoint.pth.tar"))[-1:]
    assert last.name != LATEST
    again = trainer_of(set(), num_epochs=10**6, minutes=0.5 / 60, cosine=True)
    again.restore(load_checkpoint(last), last)
    assert again.is_over


def test_a_process_trains_in_one_precision_after_another():
    """accelerate keeps the first for the whole process."""
    for precision in ("fp32", "bf16", "fp32"):
        accelerator = build_accelerator(LoopParams(precision=precision), cpu=True)
        assert accelerator.mixed_precision == {"fp32": "no"}.get(precision, precision)


def test_what_an_optimiser_remembers_is_laid_out_as_its_weights_are():
    """Files of other versions, and FOMM's, hold it row by row, where weights may have their channels last."""
    trainers = []
    for form in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = nn.Conv2d(2, 3, 3).to(memory_format=form)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, fused=True)
        loader = DataLoader(Numbers(64, set()), batch_sampler=EpochSampler(64, 2))
        loop, objective = LoopParams(batch_size=2), Objective(Squares(net), {"optimizer": optimizer})
        trainers.append(Trainer(net, LAYOUT, [objective], loader, loop, build_accelerator(loop, cpu=True)))
    rows, last = trainers
    rows.step({"x": torch.rand(2, 2, 5, 5)})
    entries = rows.state() | {name: o.state_dict() for name, o in rows.optimizers.items()}
    last.restore(copy.deepcopy(entries), "a file")
    batch = {"x": torch.rand(2, 2, 5, 5)}
    for trainer in trainers:
        trainer.step(batch)
    # a convolution sums in another order where channels are last
    torch.testing.assert_close(last.model.state_dict(), rows.model.state_dict(), atol=1e-5, rtol=0)
