"""Files handed to Meta: media to send with, and the resumable uploads whose handle goes into a template.

Both are kept in memory, ids for as long as the simulator runs.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from dataclasses import dataclass, field

from kaanha.simulator.errors import GraphError

MEGABYTE = 1024 * 1024
# Types that Meta takes for sending, with the most bytes of each. Source: Cloud API reference, "Supported media types".
SENDABLE = {
    "image/jpeg": 5, "image/png": 5, "video/mp4": 16, "video/3gp": 16, "application/pdf": 100, "text/plain": 100,
    "application/msword": 100, "application/vnd.ms-excel": 100, "application/vnd.ms-powerpoint": 100,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": 100,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": 100,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": 100,
    "audio/aac": 16, "audio/amr": 16, "audio/mpeg": 16, "audio/mp4": 16, "audio/ogg": 16, "image/webp": 0.5,
}  # fmt: skip
RESUMABLE = ("application/pdf", "image/jpeg", "image/jpg", "image/png", "video/mp4")


@dataclass(frozen=True, slots=True)
class Media:
    """One uploaded file; it belongs to the number that it was uploaded for."""

    id: str
    phone_number_id: str
    mime_type: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(slots=True)
class Session:
    """A resumable upload on its way."""

    id: str
    length: int
    mime_type: str
    content: bytearray = field(default_factory=bytearray)

    @property
    def handle(self) -> str:
        """What the finished upload is called in a template."""
        name = base64.b64encode(self.mime_type.encode()).decode()
        return f"4::{name}:ARa{hashlib.sha256(self.content).hexdigest()[:40]}"


class Uploads:
    """All files of one account."""

    def __init__(self) -> None:
        self.media: dict[str, Media] = {}
        self._sessions: dict[str, Session] = {}
        self._ids = itertools.count(500000000000001)

    def keep(self, phone_number_id: str, mime_type: str, content: bytes) -> Media:
        """Store a file to send with. Raises 100 for a type or size that Meta does not take."""
        limit = SENDABLE.get(mime_type)
        if limit is None:
            types = ", ".join(SENDABLE)
            raise GraphError(
                100,
                message=f"(#100) Param file must be a file with one of the following types: {types}. Got {mime_type}.",
            )
        if not content or len(content) > limit * MEGABYTE:
            raise GraphError(100, message=f"(#100) Param file must have between 1 byte and {limit:g} MB.")
        media = Media(str(next(self._ids)), phone_number_id, mime_type, content)
        self.media[media.id] = media
        return media

    def of_phone(self, phone_number_id: str) -> set[str]:
        """The media ids that a number may send."""
        return {media.id for media in self.media.values() if media.phone_number_id == phone_number_id}

    def open(self, *, length: int, mime_type: str) -> Session:
        """Begin a resumable upload."""
        if mime_type not in RESUMABLE:
            raise GraphError(100, message=f"(#100) Param file_type must be one of {{{', '.join(RESUMABLE)}}}")
        if length < 1:
            raise GraphError(100, message="(#100) Param file_length must be greater than or equal to 1")
        session_id = base64.urlsafe_b64encode(f"session-{next(self._ids)}".encode()).decode().rstrip("=")
        session = self._sessions[session_id] = Session(f"upload:{session_id}", length, mime_type)
        return session

    def session(self, session_id: str) -> Session | None:
        """The upload of this id (without its "upload:")."""
        return self._sessions.get(session_id)

    def extend(self, session: Session, offset: int, content: bytes) -> bool:
        """Add bytes at `offset`; True once the file is whole. Raises 100 where the bytes don't continue the file."""
        if offset != len(session.content):
            raise GraphError(100, message=f"(#100) Param file_offset must be {len(session.content)}")
        if offset + len(content) > session.length:
            raise GraphError(100, message="(#100) The file is longer than its file_length")
        session.content += content
        return len(session.content) == session.length
