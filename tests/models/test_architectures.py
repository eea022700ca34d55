"""Models whose layers have sizes of their own: alike they are transformers' own, uneven they survive being saved."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from autodistil.costs.fvcore_check import count_flops
from autodistil.models.architectures import PER_LAYER_TYPES, PerLayerModel, is_per_layer, per_layer_config
from autodistil.models.architectures.configuration_per_layer import layer_fields

VISION, DECODERS = ("vit", "deit"), ("llama", "qwen2", "qwen3")
HEADS, UNITS, HEAD_SIZE = 4, 48, 8
FULL = (HEADS, UNITS)


def plain_config(kind, depth=4):
    sizes = {"hidden_size": 32, "num_hidden_layers": depth, "num_attention_heads": HEADS, "intermediate_size": UNITS}
    text = {"vocab_size": 97, "max_position_embeddings": 40, "pad_token_id": 1}
    more = {"image_size": 16, "patch_size": 4} if kind in VISION else text
    grouped = {"num_key_value_heads": 2, "head_dim": HEAD_SIZE} if kind in DECODERS else {}
    factorised = {"embedding_size": 16} if kind == "electra" else {}
    return AutoConfig.for_model(kind, **sizes, **more, **grouped, **factorised)


def config_of(kind, layers=None):
    """With layers without attention (the first) and without FFN, unless others are given."""
    layers = layers or [(0, 20), FULL, (2 if kind in DECODERS else 3, 0), (2, 16)]
    return per_layer_config(plain_config(kind, len(layers)), HEAD_SIZE, layers)


def made(config, auto=AutoModel):
    """A model with random weights, biases and norms that matter too."""
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs_of(kind):
    generator = torch.Generator().manual_seed(0)
    if kind in VISION:
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": torch.randint(2, 97, (2, 9), generator=generator), "attention_mask": mask}


@torch.no_grad()
def output(model, kind):
    return model(**inputs_of(kind)).last_hidden_state


def layers_of(model):
    return model.layers if hasattr(model, "layers") else model.encoder.layer


# ---- the config


def test_the_config_holds_what_differs():
    config = config_of("llama", [(0, 20), FULL, (2, 0), (4, 20)])
    written = json.loads(config.to_json_string())
    assert (written["model_type"], written["head_dim"]) == ("per-layer-llama", HEAD_SIZE)
    assert (written["num_attention_heads"], written["num_key_value_heads"], written["intermediate_size"]) == (4, 2, 48)
    assert written["per_layer_config"] == {
        "0": {"intermediate_size": 20, "skip": ["attention"]},
        "2": {"num_attention_heads": 2, "num_key_value_heads": 1, "skip": ["mlp"]},
        "3": {"intermediate_size": 20},
    }
    if hasattr(config, "is_heterogeneous"):  # transformers before that says the largest
        with pytest.raises(RuntimeError, match="num_attention_heads"):
            _ = config.num_attention_heads


@pytest.mark.parametrize("keys", [int, str])
def test_layers_are_read_where_transformers_knows_no_heterogeneous_configs(keys):
    fields = {"num_attention_heads": 4, "intermediate_size": 48, "per_layer_config": {keys(1): {"skip": ["mlp"]}}}
    first, second = layer_fields(SimpleNamespace(num_hidden_layers=2, to_dict=lambda: fields))
    assert "skip" not in first
    assert (second["skip"], second["num_attention_heads"]) == (["mlp"], 4)


# ---- what it computes


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_alike_layers_are_the_plain_model(kind):
    plain, config = made(plain_config(kind)), config_of(kind, [FULL] * 4)
    own = AutoModel.from_config(config).eval()
    assert own.config is config
    assert is_per_layer(config)
    assert (config.num_attention_heads, config.intermediate_size) == FULL
    assert not config.to_dict().get("per_layer_config")
    own.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(output(own, kind), output(plain, kind))


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_a_block_that_a_layer_lacks_changes_nothing(kind):
    plain, own = made(plain_config(kind)), AutoModel.from_config(config_of(kind, [(0, UNITS), FULL, (HEADS, 0), FULL]))
    weights = plain.state_dict()
    own.eval().load_state_dict({name: weights[name] for name in own.state_dict()}, strict=True)
    norms = {name for name in weights.keys() - own.state_dict().keys() if "norm" in name.lower()}
    assert {re.search(r"\d", name).group() for name in norms} == {"0", "2"}
    first, third = layers_of(plain)[0], layers_of(plain)[2]
    if kind in VISION or kind in DECODERS:
        attention = first.self_attn if kind in DECODERS else first.attention
        attention.register_forward_hook(lambda _, __, out: (torch.zeros_like(out[0]), None))
        third.mlp.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    else:
        first.attention.register_forward_hook(lambda _, given, __: (given[0], None))
        third.output.register_forward_hook(lambda _, given, __: given[1])
    assert torch.equal(output(own, kind), output(plain, kind))


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_a_block_that_a_layer_lacks_costs_nothing(kind):
    def costs(*layers):
        model = made(config_of(kind, list(layers)), AutoModelForCausalLM if kind in DECODERS else AutoModel)
        return count_flops(model, 9), sum(parameter.numel() for parameter in model.parameters())

    both, one = costs(FULL, FULL), costs(FULL)
    without = costs(FULL, (0, UNITS)), costs(FULL, (HEADS, 0))
    assert [sum(pair) for pair in zip(*without, strict=True)] == [sum(pair) for pair in zip(both, one, strict=True)]
    assert max(without) < both


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_layers_have_the_heads_and_units_that_they_are_given(kind):
    model = made(config_of(kind))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    query = next(name for name in shapes if re.search(r"\b(query|q|q_proj)\.weight$", name)).replace("1", "{}", 1)
    heads = (2 if kind in DECODERS else 3, 2)
    assert [shapes.get(query.format(layer)) for layer in range(4)] == [
        *(None, (32, 32)),
        *((count * HEAD_SIZE, 32) for count in heads),
    ]
    assert len(model(**inputs_of(kind), output_hidden_states=True).hidden_states) == 5


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_eager_attention_is_sdpa(kind):
    model = made(config_of(kind))
    before = output(model, kind)
    model.set_attn_implementation("eager")
    assert {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")} == {"eager"}
    torch.testing.assert_close(output(model, kind), before, atol=1e-5, rtol=1e-5)


CLASSIFIERS = [
    (kind, task, (2,) if task != "Token" else (2, 9))
    for kind in PER_LAYER_TYPES
    for task in (("Image",) if kind in VISION else ("Sequence", "Token"))
]


@pytest.mark.parametrize(("kind", "task", "labels"), CLASSIFIERS)
def test_a_classifier_learns(kind, task, labels):
    config = config_of(kind)
    config.num_labels = 3
    model = made(config, getattr(transformers, f"AutoModelFor{task}Classification"))
    loss = model(**inputs_of(kind), labels=torch.ones(labels, dtype=torch.long)).loss
    loss.backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == set()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("kind", DECODERS)
def test_generation_keeps_what_it_computed(kind):
    model = made(config_of(kind), AutoModelForCausalLM)
    asked = {"input_ids": inputs_of(kind)["input_ids"], "max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    kept = model.generate(**asked, use_cache=True)
    assert kept.shape == (2, 21)
    assert torch.equal(kept, model.generate(**asked, use_cache=False))
    whole, part = model(kept, use_cache=False).logits, model(kept[:, :9], use_cache=True)
    rest = model(kept[:, 9:], past_key_values=part.past_key_values).logits
    torch.testing.assert_close(torch.cat([part.logits, rest], 1), whole, atol=1e-5, rtol=1e-5)


# ---- folders


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_the_meta_device_takes_no_memory(kind):
    with torch.device("meta"):
        model = AutoModel.from_config(config_of(kind))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.state_dict().keys() == made(config_of(kind)).state_dict().keys()


@pytest.mark.parametrize("kind", PER_LAYER_TYPES)
def test_loads_here_without_remote_code_and_its_code_is_in_the_folder(kind, tmp_path):
    model = made(config_of(kind))
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=False).eval()
    assert type(reloaded) is type(model)
    assert isinstance(reloaded, PerLayerModel)
    assert torch.equal(output(reloaded, kind), output(model, kind))
    code = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.py")}
    assert code.keys() == {"configuration_per_layer.py", "modeling_per_layer.py"}
    assert not re.findall(r"^\s*(?:import|from) autodistil", "".join(code.values()), re.MULTILINE)


LOADED_ELSEWHERE = """
import sys
sys.modules["autodistil"] = None
import torch, transformers
inputs = torch.load("inputs.pt")
outputs = {}
for kind, given in inputs.items():
    model = transformers.AutoModel.from_pretrained(kind, trust_remote_code=True).eval()
    outputs[kind] = model(**given).last_hidden_state.detach()
    head = "Image" if "pixel_values" in given else "Sequence"
    auto = getattr(transformers, f"AutoModelFor{head}Classification")
    base = auto.from_pretrained(kind, trust_remote_code=True).eval().base_model
    assert torch.equal(base(**given).last_hidden_state, outputs[kind]), kind
    model.save_pretrained(f"{kind}-again")
    again = transformers.AutoModel.from_pretrained(f"{kind}-again", trust_remote_code=True).eval()
    assert torch.equal(again(**given).last_hidden_state, outputs[kind]), kind
torch.save(outputs, "outputs.pt")
"""


@pytest.mark.slow
def test_loads_in_a_process_that_does_not_know_us(tmp_path):
    models = {kind: made(config_of(kind)) for kind in PER_LAYER_TYPES}
    for kind, model in models.items():
        model.save_pretrained(tmp_path / kind)
    torch.save({kind: inputs_of(kind) for kind in models}, tmp_path / "inputs.pt")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    run = [sys.executable, "-P", "-c", LOADED_ELSEWHERE]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    outputs = torch.load(tmp_path / "outputs.pt")
    assert [kind for kind, model in models.items() if not torch.equal(outputs[kind], output(model, kind))] == []
