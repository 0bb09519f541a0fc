"""Check what this service promises about its database connections, and report it rule by rule."""
