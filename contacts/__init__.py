"""Whom: contacts with their tags and consent, and how they come in."""
