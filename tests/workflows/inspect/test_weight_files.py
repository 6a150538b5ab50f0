"""What files of weights are said to be, and adapters to and from other tools."""

import pytest
import torch

from adapters.lora_writing import ATTENTIONS, factors_of, kohya, layers_of
from adapters.making import ORIGIN, random_adapter
from evenreel.adapters.checkpoint import load, save
from evenreel.backbones import load_backbone
from evenreel.cli import main
from evenreel.errors import WeightsError
from evenreel.workflows.inspect.weight_files import describe_file, export_adapter, import_adapter
from one_file import save_checkpoint


def test_files_are_said_to_be_what_they_are(tiny_folder, tmp_path):
    model = load_backbone(str(tiny_folder), device="cpu")
    kohya(tmp_path / "style.safetensors", factors_of(layers_of(model.unet, ATTENTIONS)))
    found = describe_file(tmp_path / "style.safetensors")
    assert (found.said, found.used_as) == ("a LoRA", "lora")
    assert found.facts["layers of the UNet"] == len(layers_of(model.unet, ATTENTIONS))
    assert found.facts["rank"] == "4"
    assert found.metadata == {"ss_network_module": "networks.lora"}
    folder, file = save_checkpoint(tmp_path / "whole")
    assert describe_file(file).said == "a checkpoint of Stable Diffusion 1.x"
    assert describe_file(folder / "vae" / "diffusion_pytorch_model.safetensors").used_as == "vae"
    assert describe_file(folder / "vae").used_as == "vae"
    for named, said in (
        (folder, "a whole model; give it as model"),
        (folder / "scheduler", "with no safetensors"),
    ):
        with pytest.raises(WeightsError, match=said):
            describe_file(named)


def test_an_adapter_goes_out_and_comes_back(tiny_folder, tmp_path):
    model = load_backbone(str(tiny_folder), device="cpu")
    adapter = random_adapter(model)
    save(adapter, tmp_path / "a.safetensors", ORIGIN)
    assert describe_file(tmp_path / "a.safetensors").facts["licence"] == ORIGIN.licence
    out = export_adapter(tmp_path / "a.safetensors", tmp_path / "lora.safetensors")
    assert describe_file(out).said == "a LoRA"
    back = import_adapter(out, tmp_path / "b.safetensors", model=str(tiny_folder), licence="CC0-1.0")
    again, origin = load(back, base=model.unet_fingerprint)
    assert origin.licence == "CC0-1.0"
    for path in adapter.lora.shapes:
        assert torch.allclose(again.lora.change(path), adapter.lora.change(path), atol=1e-6)


def test_the_commands(tmp_path, tiny_folder, capsys):
    model = load_backbone(str(tiny_folder), device="cpu")
    save(random_adapter(model), tmp_path / "a.safetensors", ORIGIN)
    assert main(["adapter", "info", str(tmp_path / "a.safetensors")]) == 0
    assert "an adapter of evenreel" in capsys.readouterr().out
    assert main(["adapter", "info", str(tmp_path / "absent.safetensors")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
