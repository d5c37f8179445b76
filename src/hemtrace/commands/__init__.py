"""The commands of `hemtrace`, a function a file; heavy imports stand inside."""
