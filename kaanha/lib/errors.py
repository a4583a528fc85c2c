"""Errors that are meant for people."""


class Refusal(Exception):
    """Something we will not do, said in sentences that tell the reader what to do about it.

    Commands print it and exit with 2, the API answers it with its `code`, the admin shows it as a message.
    """

    def __init__(self, message: str, *, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code
