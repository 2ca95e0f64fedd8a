"""What is saved is what was there at the call, whatever the loop does next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from unstuck.train.saver import Saver


def test_a_checkpoint_holds_the_values_at_its_call_with_and_without_reserved_memory(tmp_path: Path) -> None:
    for name, reserve in (("found", False), ("reserved", True)):
        live = {
            "matrix": torch.randn(300, 40),
            "spectral": torch.randn(8, 5, dtype=torch.complex64),
            "scalar": torch.tensor(3.0),
            "half": torch.randn(7).bfloat16(),
            "empty": torch.zeros(0, 4),
        }
        expected = {key: tensor.clone() for key, tensor in live.items()}
        saver = Saver(tmp_path / name, keep=1)
        if reserve:
            saver.reserve(live, {"moment": live["matrix"]})
        state: dict[str, Any] = {"update": 1, "best_update": 1}
        saver.save(live, {"moment": live["matrix"]}, state)
        for tensor in live.values():
            tensor.zero_()
        saver.wait()
        (folder,) = (tmp_path / name / "checkpoints").glob("update-*")
        saved = load_file(folder / "model.safetensors")
        assert saved.keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.equal(saved[key], tensor), (name, key)
            assert saved[key].dtype == tensor.dtype
        assert torch.equal(load_file(folder / "optimizer.safetensors")["moment"], expected["matrix"])
