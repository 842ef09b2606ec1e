"""What a forward did, exactly."""
