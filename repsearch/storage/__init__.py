"""Files: written atomically, with manifests, locks and resuming, and checked where they come from others."""
