"""Which statistics does an audit rest on? Pure functions on arrays; nothing here knows of genes, models or files."""
