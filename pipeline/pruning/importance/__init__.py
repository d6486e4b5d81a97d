"""Importance scores of channels and the evidence they rest on."""
