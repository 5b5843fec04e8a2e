"""How the service is deployed: proxies, Kubernetes, KServe, monitoring and Ray."""
