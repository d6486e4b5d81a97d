"""Run-time adaptation: a ladder of networks, streams to replay, the controller's settings and its opponents."""
