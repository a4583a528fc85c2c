"""Why Meta doesn't let a template be sent, in words that say what to do."""

from __future__ import annotations

import re

from templates_app.models import MessageTemplate

Status = MessageTemplate.Status

# Source: Webhooks, "message_template_status_update", and Templates, "Common rejection reasons".
WORDS = {
    "ABUSIVE_CONTENT": "It reads as a threat or an insult. Write it anew, in other words.",
    "INCORRECT_CATEGORY": "It doesn't belong in its category. Submit it in the one that fits what it says.",
    "INVALID_FORMAT": "Its variables or links aren't written as Meta wants them: number them {{1}}, {{2}} without a "
    "gap, put none at the very beginning or end, and give an example of each.",
    "PROMOTIONAL": "It advertises, which its category doesn't allow. Submit it as Marketing.",
    "SCAM": "Meta takes it for a fraud. Don't ask for card numbers or passwords, and name your business.",
    "TAG_CONTENT_MISMATCH": "Its language or category isn't that of its text. Submit it with the right ones.",
}
# Where Meta gives no reason. Source: Templates, "Template pausing".
OTHERWISE: dict[str, str] = {
    Status.REJECTED: "Meta gave no reason: WhatsApp Manager may show one.",
    Status.PAUSED: "Too many people blocked or reported it. Meta lets it go on after some hours; "
    "a third time disables it.",
    Status.DISABLED: "It was paused too often, or breaks Meta's rules. Make a new one, with other words.",
    Status.DELETED: "It isn't at Meta any more. Make it anew there, then sync.",
}
_CODE = re.compile(r"[A-Z][A-Z0-9_]+")


def why(template: MessageTemplate) -> str:
    """Why the template is rejected, paused, disabled or gone; empty for every other status."""
    if template.status not in OTHERWISE:
        return ""
    code, *told = template.rejected_reason.split(" · ")
    if not _CODE.fullmatch(code):
        code, told = "", [code, *told]
    said = " ".join(filter(None, told))
    words = WORDS.get(code) or (f"Meta's reason: {code.replace('_', ' ').lower()}." if code else "")
    if said:
        words = f"{words} Meta says: {said}".lstrip()
    return words or OTHERWISE[template.status]
