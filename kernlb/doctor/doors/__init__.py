"""Doors: one module an outside thing. Each reads it once into values, or carries ops out."""
