"""The ground floor: one subject per module, none of them knows what Kaanha is."""
