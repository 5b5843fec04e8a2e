"""HTTP: routes, uploads, response schemas, problems, middleware."""
