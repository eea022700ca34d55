"""bertdistiller 0.1.2: teacher forward, student forward, its loss, backward and AdamW, for one fixed student."""

from speak import serve, settings

given = settings()


def make():
    """Its trainer's own loss on its own student, without the loop of `transformers.Trainer` around it."""
    import torch
    from bertdistiller.distillation.minilm import MiniLMTrainer, MiniLMTrainingArguments, create_student
    from transformers import AutoModel

    student, ids = given["student"], torch.tensor(given["ids"])
    teacher = AutoModel.from_pretrained(given["teacher"])
    teacher.config.architectures = ["BertForMaskedLM"]  # the one name that it takes
    arguments = MiniLMTrainingArguments(
        output_dir="unused",
        use_cpu=True,
        report_to=[],
        teacher_layer=teacher.config.num_hidden_layers,
        student_layer=student["num_layers"],
        student_hidden_size=student["hidden_size"],
        student_attention_heads=student["num_heads"],
        num_relation_heads=given["relation_heads"],
    )
    model = create_student(given["teacher"], arguments).eval()  # eval: no dropout, as in every case
    trainer = MiniLMTrainer(model=model, args=arguments, teacher_model=teacher)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given["learning_rate"], weight_decay=0.01)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def step():
        trainer.compute_loss(model, inputs).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


serve(make, given["clock"])
