"""Users in and out, many at once: files read in several formats, imports that go on after a kill, and exports."""
