"""Distillation objectives: what a student's states are compared with the teacher's by."""
