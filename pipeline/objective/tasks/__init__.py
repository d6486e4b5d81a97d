"""Tasks: one a file, named by the file's name; what each holds says :mod:`pipeline.objective.task`."""
