"""The command: flags -> registry -> engine. Nothing below it knows that there is one."""
