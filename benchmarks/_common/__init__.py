"""What several benchmarks need: the base network and its measured candidates, rows and tables, toys, virtual boards."""
