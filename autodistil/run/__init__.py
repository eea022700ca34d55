"""One run: its folder, its inputs and its SuperLMs."""
