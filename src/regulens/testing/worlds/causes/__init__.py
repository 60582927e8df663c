"""One file per cause. Each has one function, `Draft` → `Cause`, and says what is true in its worlds."""
