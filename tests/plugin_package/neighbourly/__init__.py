"""A host, an inversion, a metric and a backbone for evenreel."""
