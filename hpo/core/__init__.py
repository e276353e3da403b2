"""Plain data shared by all layers; imports no library."""
