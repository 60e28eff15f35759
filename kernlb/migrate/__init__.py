"""Configurations of other programs to service documents, and back; what is lost is named."""
