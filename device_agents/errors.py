"""The one exception that the agent answers with: a kind from the wire protocol and a message for a person."""


class AgentError(Exception):
    """An expected failure.

    ``kind`` is one of the constants in :mod:`device_agents.protocol`; it tells the host whether the candidate, the
    device or the request is to blame.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
