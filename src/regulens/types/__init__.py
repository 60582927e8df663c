"""Frozen values that pass between the stages; nothing here reads a file or runs a model."""
