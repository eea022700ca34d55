"""The parts of `benchmarks/step.py`.

setting     teacher, SuperLMs, objective and token batch that all cases share
paper       AutoDistil's recipe as the paper and its code write it
students    students alone: ours, and the plain module of the same shape
parts       the share of each part of our step
"""
