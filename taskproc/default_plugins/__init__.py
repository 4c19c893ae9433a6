"""The components that come with taskproc, behind the same hooks as anybody's."""
