"""What we tell customers: events of an organization, frozen when they happened."""
