"""whittle 0.6.0: forward and backward of the sub-networks of a step, in its GPT of the teacher's shape."""

from speak import serve, settings

given = settings()


def make():
    """One SuperNet for each of our SuperLMs; the list of sub-networks is replayed."""
    import torch
    from litgpt import Config
    from whittle.models.gpt import GPT

    ids = torch.tensor(given["ids"])

    class NoHead(torch.nn.Module):
        """Encoders have none: a projection onto the vocabulary would be most of the time."""

        def forward(self, hidden):
            return hidden

        def set_sub_network(self, *args, **kwargs):
            pass

        def reset_super_network(self):
            pass

    def network(largest):
        config = Config(
            n_layer=largest["num_layers"],
            n_embd=largest["hidden_size"],
            n_head=largest["num_heads"],
            head_size=largest["head_size"],
            intermediate_size=largest["intermediate_size"],
            padded_vocab_size=given["vocab_size"],
            vocab_size=given["vocab_size"],
            block_size=len(given["ids"][0]),
            mlp_class_name="GptNeoxMLP",
            norm_class_name="LayerNorm",
            parallel_residual=False,
            bias=True,
            lm_head_bias=False,
        )
        model = GPT(config)
        model.lm_head = NoHead()
        return model

    networks = [network(largest) for largest in given["superlms"]]

    def step():
        for model, students in zip(networks, given["students"], strict=True):
            model.zero_grad(set_to_none=True)
            for student in students:
                model.set_sub_network(
                    sub_network_n_embd=student["hidden_size"],
                    sub_network_intermediate_size=student["intermediate_size"],
                    sub_network_num_heads=student["num_heads"],
                    sub_network_n_layers=student["num_layers"],
                )
                model(ids).square().mean().backward()
                model.reset_super_network()

    step()
    return step


serve(make, given["clock"])
