"""The proof: what the service promises, rule by rule."""
