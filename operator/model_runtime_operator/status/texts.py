"""What texts of others mean, and whether one says something new. Pure."""

from __future__ import annotations

import re

# What a text of the kubelet or the scheduler means; the first pattern that is found decides.
_MEANINGS = (
    (
        re.compile(r'secret "[^"]*" not found|non-existent secret key|in Secret |secret .*not found', re.IGNORECASE),
        "SecretMissing",
    ),
    (re.compile(r'configmap "[^"]*" not found|non-existent config key|in ConfigMap ', re.IGNORECASE), "SourceNotFound"),
    (re.compile(r'persistentvolumeclaim "[^"]*" not found', re.IGNORECASE), "SourceNotFound"),
    (re.compile(r"subPath", re.IGNORECASE), "SourceNotFound"),
    (re.compile(r"unbound immediate PersistentVolumeClaims|volume binding|not bound", re.IGNORECASE), "VolumePending"),
    (
        # the last is what a containerd says that does not know them
        re.compile(
            r'image volume|volume source type.*image|image_volume|imagevolume|failed to mkdir ""', re.IGNORECASE
        ),
        "ImageVolumeUnsupported",
    ),
)

_TAIL = 1000  # characters of a container's last message
_KUBELET_TAIL = 2048  # bytes of a log that the kubelet takes for a message

_BY_POLICY = re.compile(r"denied (the )?request|violates PodSecurity")
# Each violation of a ResourceQuota or a LimitRange, as their admission plugins write it; several stand in brackets.
_BY_LIMIT = re.compile(
    r"(?:exceeded|failed|insufficient|status unknown for) quota\b"
    r"|\b(?:minimum|maximum) \S+ usage per \w+ is "
    r"|\bmax limit to request ratio per \w+ is "
)

# What changes from one try to the next and says nothing: numbers (counts, times, the kubelet's dated folders, ports), hashes
# (containers, sandboxes) and addresses. Not what is part of a name: adder-5f6d-2x4kq.
_CHANGING = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z?|"
    r"0x[0-9a-f]+|(?<![A-Za-z0-9-])(?:[0-9a-f]{12,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d[\d._:]*)"
)


def meaning(text: str, otherwise: str) -> str:
    """The word of the catalogue for a text of the kubelet or the scheduler."""
    return next((word for pattern, word in _MEANINGS if pattern.search(text)), otherwise)


def refused(code: int, message: str) -> str:
    """The word for the HTTP status and text with which the API server refuses an object."""
    if "must specify a volume type" in message:  # it drops volumes of images where it does not know them
        return "ImageVolumeUnsupported"
    if _BY_POLICY.search(message):
        return "AdmissionDenied"
    if _BY_LIMIT.search(message):
        return "QuotaExceeded"
    return "AdmissionDenied" if code == 403 else "ObjectRefused"


def last_words(text: str) -> str:
    """The end of a text, from the beginning of a word. The kubelet cuts logs anywhere."""
    if len(text) <= _TAIL and len(text.encode()) < _KUBELET_TAIL:
        return text
    return text[-_TAIL:].partition("\n" if "\n" in text[-_TAIL : -_TAIL // 2] else " ")[2] or text[-_TAIL:]


def says_the_same(old: str, new: str) -> bool:
    """Whether the texts differ only in what changes from one try to the next."""
    return _CHANGING.sub("#", old) == _CHANGING.sub("#", new)
