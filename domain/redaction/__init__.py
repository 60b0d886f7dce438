"""Transcripts without what is personal: `redact` is what stands between a call and the database."""

from domain.redaction.redactor import RedactedTranscript, Redactor
from domain.redaction.transcripts import redact

__all__ = ["RedactedTranscript", "Redactor", "redact"]
