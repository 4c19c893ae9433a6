"""The only place where the core meets the world: files, clocks, processes, plugins."""
