"""Tables, figures and claims, from finished runs and probes."""
