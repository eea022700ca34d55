"""Small random teachers of every family, a space of students and some inputs for them."""

from functools import cache

import numpy as np
import torch
from transformers import (
    BertConfig,
    CamembertConfig,
    DeiTConfig,
    Dinov2Config,
    DistilBertConfig,
    ElectraConfig,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    ViTConfig,
    XLMRobertaConfig,
)

from autodistil.data.sequences import Sentences
from autodistil.data.tokens import TokenStream
from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.models.families import family_of
from autodistil.models.teacher import as_teacher
from autodistil.objectives.objective import Objective, parse_objective
from autodistil.objectives.term import TermOptions
from autodistil.space.space import SubSpace
from autodistil.space.student import LayerSizes, StudentConfig
from autodistil.training.recipe import Recipe

RECIPE = Recipe(
    steps=6,
    accumulate=1,
    learning_rate=1e-3,
    warmup=0.2,
    weight_decay=0.01,
    clip=1.0,
    sampling="sandwich",
    in_place=False,
    random_students=2,
    seed=0,
    precision="fp32",
)
"""A short training."""

_COMMON = {
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 40,
}
_MODERN = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "local_attention": 8,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
}
"""Local attention of 4 tokens to either side: less than the tests' texts are long."""
FAMILY_CONFIGS = {
    "bert": lambda: BertConfig(**_COMMON),
    "roberta": lambda: RobertaConfig(**_COMMON, pad_token_id=1),
    "xlm-roberta": lambda: XLMRobertaConfig(**_COMMON, pad_token_id=1),
    "camembert": lambda: CamembertConfig(**_COMMON, pad_token_id=1),
    "mpnet": lambda: MPNetConfig(**_COMMON, pad_token_id=1),
    "modernbert": lambda: ModernBertConfig(**_COMMON, **_MODERN),
    "modernbert-biases": lambda: ModernBertConfig(
        **_COMMON, **_MODERN, attention_bias=True, mlp_bias=True, norm_bias=True
    ),
    "electra": lambda: ElectraConfig(**_COMMON, embedding_size=64),
    "electra-factorised": lambda: ElectraConfig(**_COMMON, embedding_size=32),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=97, dim=64, n_layers=4, n_heads=4, hidden_dim=128, max_position_embeddings=40
    ),
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2, "tie_word_embeddings": True}
DECODER_CONFIGS = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "llama-biases": lambda: LlamaConfig(**_GROUPED, attention_bias=True, mlp_bias=True),
    "llama-ungrouped": lambda: LlamaConfig(**_COMMON),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen2-own-head": lambda: Qwen2Config(**{**_GROUPED, "tie_word_embeddings": False}),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=16),
}

_VISION = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 16,
    "patch_size": 4,
}
VISION_CONFIGS = {
    "vit": lambda: ViTConfig(**_VISION),
    "vit-grey": lambda: ViTConfig(**_VISION, num_channels=1, qkv_bias=False),
    "deit": lambda: DeiTConfig(**_VISION),
    "dinov2": lambda: Dinov2Config(**{**_VISION, "intermediate_size": None}, mlp_ratio=2),
}
"""Of teachers that read images: 16 patches and the special tokens."""
ALL_CONFIGS = {**FAMILY_CONFIGS, **VISION_CONFIGS}


@cache
def random_teacher(kind="bert"):
    """A teacher with random weights and no tokenizer."""
    from transformers import AutoModel, AutoModelForCausalLM

    torch.manual_seed(0)
    config = {**ALL_CONFIGS, **DECODER_CONFIGS}[kind]()
    family = family_of(config)
    model = (AutoModelForCausalLM if family.causal else AutoModel).from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # biases and norms that matter
    return as_teacher(kind, None, model, family, None, getattr(model, "pooler", None) is not None)


def small_space(teacher, name="small"):
    """Narrow, shallow and full-size students, with heads cut too."""
    attention = {"hidden_size": (32, 64), "num_heads": (2, 4), "head_size": (8, 16)}
    return SubSpace(name, {"num_layers": (2, 3, 4), **attention, "mlp_ratio": (1.0, 2.0)})


def uneven_students(teacher):
    """Students of a small teacher whose layers have sizes of their own, where its family has such."""
    layers = [LayerSizes(0, 128), LayerSizes(2, 64), LayerSizes(4, 0), LayerSizes(2, 128)]
    few = [LayerSizes(2, 32), LayerSizes(0, 0), LayerSizes(0, 0), LayerSizes(2, 64)]
    known = teacher.family.own_config is not None
    return [StudentConfig.of_layers(sizes, hidden_size=32, head_size=16) for sizes in (layers, few) if known]


def objective_of(text, relation_heads=4, pooling="mean", cuts=(64,)):
    """An objective with options given; cuts that cut nothing off."""
    return Objective(parse_objective(text), TermOptions(relation_heads, pooling, cuts=cuts))


def states_of(tensors):
    """States of given queries, keys and values (batch, heads, seq, size): the joined values and queries are the hidden
    states, and there is a head for 11 tokens."""
    hidden = tuple(x.transpose(1, 2).flatten(2) for x in (tensors[2], tensors[0]))
    batch, seq, width = hidden[-1].shape
    head = torch.randn(11, width, generator=torch.Generator().manual_seed(width)) / 5
    tokens = (torch.arange(seq) * 5 % 11).expand(batch, seq)
    return ModelStates(AttentionStates(*tensors), hidden[-1], hidden, (0.0, 1.0), head, tokens)


def inputs_of(teacher, texts=3, length=12, seed=1):
    """Random ids of one length, or images of noise."""
    generator = torch.Generator().manual_seed(seed)
    config = teacher.model.config
    if teacher.family.modality == "image":
        shape = (texts, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": torch.randn(shape, generator=generator)}
    return {"input_ids": torch.randint(3, config.vocab_size, (texts, length), generator=generator)}


def own_inputs(superlm, student, generator):
    """Random ids of a student's own vocabulary, a mask, and the same batch in the teacher's numbering."""
    kept = superlm.kept_tokens(student)
    ids = torch.randint(0, student.vocab_size or 97, (3, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return ids, mask, {"input_ids": ids if kept is None else kept[ids], "attention_mask": mask}


END, FIRST, LAST = 1, 2, 3


def sentences_of(tmp_path, tokens, seq_len=20, without=None, name="train"):
    """Those of a stream in which `END` ends a sentence."""
    path = tmp_path / f"{name}.bin"
    np.array(tokens, dtype=np.uint16).tofile(path)
    (1 + np.flatnonzero(np.array(tokens) == END)).astype(np.int64).tofile(path.with_suffix(".ends"))
    return Sentences(TokenStream(path, "uint16", len(tokens)), seq_len, [FIRST], [LAST], without)
