"""Pictures of real runs, for the documentation."""
