"""The search for students: study, Pareto front, pick."""
