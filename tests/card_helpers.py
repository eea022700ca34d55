"""As much of a teacher as a model card reads, and the costs of a student and its teacher."""

from dataclasses import replace
from types import SimpleNamespace

from autodistil.models.families.bert import BERT
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig


def card_teacher(folder, causal=False, images=None):
    """As much of a teacher as the card reads; one without a folder is of the Hub."""
    model = SimpleNamespace(config=SimpleNamespace(model_type="bert", vocab_size=30522))
    return SimpleNamespace(
        source="a/teacher",
        folder=folder,
        hub_id=None if folder else "a/teacher",
        dims=StudentConfig(6, 384, 12, 32, 1536),
        encoder_shape=EncoderShape(30522, 514, None, pooler=True),
        max_length=512,
        images=images,
        model=model,
        family=replace(BERT, causal=causal),
    )


COSTS = {
    "flops": 123_456_789,
    "params": 12_345_678,
    "params_no_embeddings": 1_234_567,
    "size_mb": 49.4,
    "seq_len": 128,
    "teacher": {"flops": 1_437_800_000, "params": 22_700_000, "params_no_embeddings": 10_600_000, "size_mb": 90.9},
}
