"""What a session fails with."""

__all__ = ["Wrong"]


class Wrong(Exception):
    """A correct driver has noticed something; ``kind`` tells failures apart."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind
