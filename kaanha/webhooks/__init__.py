"""What we tell customers: events, frozen when they happened and delivered to the endpoints that listen."""
