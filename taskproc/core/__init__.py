"""The pure core: values in, values out. No files, clocks, processes, threads or plugins."""
