"""Layers behind a cut, fitted to what they answered before."""
