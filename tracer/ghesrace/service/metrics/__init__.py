"""What Prometheus sees: the families, node_exporter's textfile, HTTP."""
