"""Whose: organizations, the people who work in them and the keys of other systems."""
