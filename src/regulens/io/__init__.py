"""Readers and writers of files: cells, references, gene tables, the run folder. Import the module you need."""
