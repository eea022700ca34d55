"""The parts of `benchmarks/quality.py`: what the students of a search are worth beside every control, at equal cost.

settings    what decides the table, and hashes of it
corpus      one text file out of many sources, by weights
shapes      what a person would choose by hand under a budget
compute     multiply-adds of a training
bench       the run that all rows share: trained once, searched once a budget
slices, trained_alone, layer_reduction, static    the student of each row
students    that student as a Hugging Face folder
cells       what is measured on such a folder, and the means of it
latency     how long its forward takes
rows        a JSON file a row; what is done is not done again
table       rows -> CSV and Markdown
published   figures of others, with their sources
goals       which of the stated goals hold
picture     quality over FLOPs
page        all that as Markdown
make        what is missing, then the table
"""
