"""The console scripts of this package, a module each."""
