"""Federated policy: sites train one Q-network together; its weights travel over Flower, nothing that was measured."""
