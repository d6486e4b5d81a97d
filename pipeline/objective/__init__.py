"""What a network is trained by and judged by: its task."""
