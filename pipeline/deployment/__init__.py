"""Deployment of bundles on registered boards: push, try, measure, switch, and go back."""
