"""What tests of whole runs share: a random teacher with a real tokenizer, some text, a search space, error lines."""

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
)

from autodistil import pipeline
from autodistil.run.run import Run

SENTENCE = "The river {} runs along the old wall of town number {} and the people cross the bridge every morning. "
DECODER_SPACE = """
sub_spaces:
  tiny:
    {num_layers: [2, 3], hidden_size: [32, 48], num_heads: [2, 4], head_size: 16, mlp_ratio: 2.0, free_attention: true}
"""


def save_random_bert(
    folder, tokenizer_dir, hidden_size=64, num_layers=4, num_heads=4, intermediate_size=256, positions=128
):
    """A random BERT with the tokenizer of another folder."""
    config = BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=positions,
    )
    return save_random(folder, tokenizer_dir, config)


def save_random(folder, tokenizer_dir, config):
    """A random model of a config with the tokenizer of another folder."""
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(folder)
    return folder


def small_modernbert():
    """The config of a ModernBERT, 4 layers x 64, for BERT's tokenizer."""
    return ModernBertConfig(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=128,
        local_attention=8,
        pad_token_id=0,
        bos_token_id=101,
        cls_token_id=101,
        eos_token_id=102,
        sep_token_id=102,
    )


def small_mpnet():
    """The config of an MPNet, 4 layers x 64, with as many tokens as BERT's tokenizer."""
    return MPNetConfig(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=130,
    )


def small_llama(**options):
    """The config of a Llama, 4 layers x 64, with a BERT tokenizer's number of tokens unless given."""
    return LlamaConfig(
        **{"vocab_size": 30522, **options},
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=101,
        eos_token_id=102,
        tie_word_embeddings=True,
    )


def save_llama(folder, tokenizer, **options):
    """A random one with a tokenizer; its path."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(small_llama(**options)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_corpus(path):
    """600 short documents of one sentence five times over."""
    path.write_text("\n\n".join(SENTENCE.format(i, 7 * i) * 5 for i in range(600)))
    return path


def run_options(folder, tokenizer_dir, space, **options):
    """Options of a short run without refining, with its teacher, text and space (YAML) written into `folder`."""
    (folder / "space.yaml").write_text(space)
    inputs = {
        "teacher": str(save_random_bert(folder / "teacher", tokenizer_dir)),
        "corpus": [str(write_corpus(folder / "corpus.txt"))],
        "space": str(folder / "space.yaml"),
    }
    return {**inputs, "batch_size": 2, "seq_len": 16, "heldout_sequences": 4, "refine_top": 0, **options}


@dataclass
class _StopAfter:
    """Asks to stop at the n-th question."""

    questions: int

    @property
    def requested(self):
        self.questions -= 1
        return self.questions <= 0


def stop_after(patch, questions):
    """Let the next trainings be interrupted, as by Ctrl-C, at the n-th time that they ask."""
    stop = _StopAfter(questions)

    @contextmanager
    def stop_soon():
        yield stop
        if stop.questions <= 0:
            raise KeyboardInterrupt

    patch.setattr("autodistil.stages.training.stop_on_interrupt", stop_soon)


def train_in_two(folder, options, monkeypatch):
    """A run that is trained to the end after it was interrupted."""
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(Run.open(folder, options))
    run = Run.open(folder, options)
    pipeline.train(run, resume=True)
    return run


def one_line(capsys):
    """What a refused command says, which must be one line."""
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("autodistil: ")
    return lines[0]
