"""Workers: where candidates are built and fine-tuned, in this process, in others beside it, or on other hosts (Ray)."""
