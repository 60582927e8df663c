"""Where the stages meet: `preview` says what a plan would do, `audit` does it."""
