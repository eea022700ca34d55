"""What leaves a run: a student as a Hugging Face folder, its checks, its card, and the Hub."""
