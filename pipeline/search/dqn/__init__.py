"""The deep Q-network: its network, its replay buffer."""
